"""Breadth-first search over every reachable state of a model, with the shortest way to what must not be."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Explored", "Step", "Violation", "search", "stuck_states"]

S = TypeVar("S", bound=Hashable)


class Step(NamedTuple, Generic[S]):
    """One change of the model.

    Attributes:
        what: Who did what, for traces.
        state: The state afterwards.
        is_progress: Whether the system takes this step by itself, without a person or a mishap.
    """

    what: str
    state: S
    is_progress: bool


@dataclass(frozen=True, slots=True)
class Violation(Generic[S]):
    """An invariant that does not hold, and the shortest way there.

    Attributes:
        invariant: The invariant, in words.
        trace: The steps from the beginning, each with the state it led to.
    """

    invariant: str
    trace: tuple[tuple[str, S], ...]

    def __str__(self) -> str:
        lines = [f"VIOLATED: {self.invariant}"]
        lines += [f"{number:3}. {what:40} {state}" for number, (what, state) in enumerate(self.trace)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Explored(Generic[S]):
    """What the search saw.

    Attributes:
        states: Number of different states.
        steps: Number of steps between them.
        violation: The first invariant that did not hold, reached by the fewest steps.
        happened: Everything that happened in some step.
        progress: For every state, the states the system reaches from it by itself in one step.
    """

    states: int
    steps: int
    violation: Violation[S] | None
    happened: frozenset[str]
    progress: dict[S, tuple[S, ...]]
    _came_from: dict[S, tuple[S, str] | None]

    def trace_to(self, state: S) -> tuple[tuple[str, S], ...]:
        """Return the shortest way to a state that was seen."""
        trace: list[tuple[str, S]] = []
        came = self._came_from[state]
        while came is not None:
            before, what = came
            trace.append((what, state))
            state, came = before, self._came_from[before]
        return (("begin", state), *reversed(trace))


def search(
    initial: S,
    steps: Callable[[S], Iterable[Step[S]]],
    broken: Callable[[S, str, S], str | None],
) -> Explored[S]:
    """Visit every reachable state, nearest first, until one breaks an invariant.

    Args:
        initial: Where it begins.
        steps: The steps out of a state.
        broken: Names the invariant a step breaks, given the state before, what happened and the
            state after.
    """
    came_from: dict[S, tuple[S, str] | None] = {initial: None}
    progress: dict[S, tuple[S, ...]] = {}
    happened: set[str] = set()
    queue = deque([initial])
    count = 0

    def seen(violation: Violation[S] | None) -> Explored[S]:
        return Explored(len(came_from), count, violation, frozenset(happened), progress, came_from)

    while queue:
        state = queue.popleft()
        by_itself = []
        for what, after, is_progress in steps(state):
            count += 1
            happened.add(what)
            if after not in came_from:
                came_from[after] = (state, what)
                queue.append(after)
            if is_progress:
                by_itself.append(after)
            if (invariant := broken(state, what, after)) is not None:
                trace = (*seen(None).trace_to(state), (what, after))
                return seen(Violation(invariant, trace))
        progress[state] = tuple(by_itself)
    return seen(None)


def stuck_states(explored: Explored[S], is_good: Callable[[S], bool]) -> Iterator[S]:
    """Yield the states from which the system by itself can reach no good one, nearest first."""
    before: dict[S, list[S]] = {}
    for state, reached in explored.progress.items():
        for after in reached:
            before.setdefault(after, []).append(state)
    saved = {state for state in explored.progress if is_good(state)}
    queue = deque(saved)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in saved:
                saved.add(state)
                queue.append(state)
    return (state for state in explored.progress if state not in saved)
