"""Loading in several threads: who loads what, who waits for whom, and what each load took."""

from __future__ import annotations

import copy
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from emberq.errors import ResourceFailed
from emberq.system.processes import private_memory_bytes

__all__ = ["LoadLedger", "LoadRecord", "Loads", "make_value"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """How one resource was loaded.

    Attributes:
        name: The resource's function name.
        pid: The process that loaded it.
        seconds: How long it took by itself, without the resources that were loaded on its way.
        memory_bytes: By how much the process's private memory grew for it.
        memory_is_shared: Whether others were loaded at the same time. A process has one memory, so
            growth is then split evenly among those at work: the sum is right, the parts are estimates.
    """

    name: str
    pid: int
    seconds: float
    memory_bytes: int
    memory_is_shared: bool = False


@dataclass(slots=True)
class _Account:
    seconds: float = 0.0
    memory_bytes: float = 0.0
    is_shared: bool = False


class LoadLedger:
    """Books time and growing memory on whatever is being loaded.

    Invariant: all growth between the first `switch` to something and the last one from it is booked
    exactly once. Not safe for threads by itself; the caller holds a lock.
    """

    def __init__(self, *, memory: Callable[[], int] = private_memory_bytes) -> None:
        """Start with nothing at work; `memory` returns the process's private bytes."""
        self._memory = memory
        self._at_work: set[object] = set()
        self._accounts: dict[object, _Account] = {}
        self._settled_bytes = 0
        self._settled_at = 0.0

    def switch(self, *, stop: object | None = None, start: object | None = None) -> None:
        """Let one thing rest, another one work, or both, from now on."""
        now, memory = time.perf_counter(), self._memory()
        for key in self._at_work:
            account = self._accounts.setdefault(key, _Account())
            account.seconds += now - self._settled_at
            account.memory_bytes += (memory - self._settled_bytes) / len(self._at_work)
            account.is_shared |= len(self._at_work) > 1
        self._settled_bytes, self._settled_at = memory, now
        self._at_work.discard(stop)
        if start is not None:
            self._at_work.add(start)

    def close(self, key: object) -> tuple[float, int, bool]:
        """Return seconds, bytes and whether they are shared of a thing that rests, and forget it."""
        account = self._accounts.pop(key, _Account())
        return round(account.seconds, 4), round(account.memory_bytes), account.is_shared


def make_value(function: Callable[[], T | Iterator[T]]) -> tuple[T, Iterator[T] | None]:
    """Call a function that returns a value, or yields one and cleans up after the yield.

    Returns:
        The value, and the generator to go on with for the clean-up, if there is one.
    """
    made = function()
    if not inspect.isgenerator(made):
        return cast("T", made), None
    generator = cast("Iterator[T]", made)
    return next(generator), generator


class _Named(Protocol):
    """What is loaded: anything with a name."""

    @property
    def name(self) -> str: ...


class Loads:
    """Sees to it that each thing is loaded by one thread at a time while the others wait for it.

    Invariant: no thread waits for a thread that, directly or through others, waits for it.
    """

    def __init__(self) -> None:
        """Start with nothing being loaded."""
        self._changed = threading.Condition()
        #: What each thread is loading, outermost first.
        self._stacks: dict[int, list[_Named]] = {}
        #: The thread that loads each thing.
        self._loaders: dict[_Named, int] = {}
        #: What each waiting thread waits for.
        self._awaited: dict[int, _Named] = {}
        #: Why a load failed, for the threads that waited for it.
        self._failures: dict[_Named, BaseException] = {}
        self._ledger = LoadLedger()

    def begin(self, thing: _Named, *, is_loaded: Callable[[], bool]) -> bool:
        """Take on the load, or wait for the thread that has.

        Args:
            thing: What is to be loaded.
            is_loaded: Tells whether it has been.

        Returns:
            Whether the caller loads it, and then calls `end`.

        Raises:
            ResourceFailed: If this thread would wait for itself; names the circle.
            BaseException: What the load that was waited for failed with; another one would, too.
        """
        me = threading.get_ident()
        with self._changed:
            outer = self._innermost(me)
            if thing in self._loaders:
                self._refuse_circle(thing, me)
                self._wait(thing, me, outer)
            if is_loaded():
                return False
            self._loaders[thing] = me
            self._stacks.setdefault(me, []).append(thing)
            self._ledger.switch(stop=outer, start=thing)
            return True

    def end(
        self, thing: _Named, failure: BaseException | None, *, keep: Callable[[float, int, bool], None]
    ) -> None:
        """Hand the load in.

        Args:
            thing: What was loaded, or not.
            failure: Why not.
            keep: Called with seconds, bytes and whether these are shared, before others may use it.
        """
        me = threading.get_ident()
        with self._changed:
            self._stacks[me].pop()
            self._ledger.switch(stop=thing, start=self._innermost(me))
            if not self._stacks[me]:
                del self._stacks[me]
            del self._loaders[thing]
            taken = self._ledger.close(thing)
            if failure is None:
                keep(*taken)
            elif thing in self._awaited.values():
                self._failures[thing] = _copy(failure)
            self._changed.notify_all()

    def _innermost(self, thread: int) -> _Named | None:
        stack = self._stacks.get(thread)
        return stack[-1] if stack else None

    def _wait(self, thing: _Named, me: int, outer: _Named | None) -> None:
        self._awaited[me] = thing
        self._ledger.switch(stop=outer)
        try:
            self._changed.wait_for(lambda: thing not in self._loaders)
        finally:
            del self._awaited[me]
            self._ledger.switch(start=outer)
        failure = self._failures.get(thing)
        if thing not in self._awaited.values():
            self._failures.pop(thing, None)
        if failure is not None:
            raise _copy(failure)

    def _refuse_circle(self, thing: _Named, me: int) -> None:
        path: list[str] = []
        wanted: _Named | None = thing
        while wanted is not None and wanted in self._loaders:
            loader = self._loaders[wanted]
            stack = self._stacks[loader]
            path += [one.name for one in stack[stack.index(wanted) :]]
            if loader == me:
                circle = " → ".join([*path, path[0]])
                raise ResourceFailed(
                    f"The resources need one another in a circle: {circle}.",
                    hint="Take out of one of them what the other needs, as a resource of its own.",
                )
            wanted = self._awaited.get(loader)


def _copy(failure: BaseException) -> BaseException:
    """Return the same error for another thread: each adds its own traceback and notes."""
    try:
        twin = copy.copy(failure)
    except Exception:  # noqa: BLE001 - an error may be made in ways that cannot be repeated
        twin = ResourceFailed(f"{type(failure).__name__}: {failure}")
    twin.__cause__ = failure
    return twin
