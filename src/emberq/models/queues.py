"""Lanes: what waits for a model, in fair turns between tenants, one lane never behind another."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["InferenceQueue", "Input", "Model", "ModelKey", "QueueItem", "QueueSpec", "Request", "Result"]

#: A text, or a query and a text that belong together.
Input: TypeAlias = "str | tuple[str, str]"


class Model(Protocol):
    """What computes one row of numbers for each input; several threads may ask it at once."""

    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a row."""

    def canonical(self, one: Input, /) -> Input:
        """Return the one that stands for all inputs that the model cannot tell apart."""

    def compute(self, inputs: Sequence[Input], /) -> tuple[NDArray[np.float32], list[int]]:
        """Return the rows, `[inputs, columns]`, and the tokens of each input."""


class ModelKey(NamedTuple):
    """Which model; `kind` says what it makes of its inputs: vectors of texts, or scores of pairs."""

    kind: Literal["embedding", "reranking"]
    name: str


class Result(NamedTuple):
    """What a model said of one input: its row, `[columns]`, and the number of tokens."""

    row: NDArray[np.float32]
    tokens: int


class Request:
    """Somebody who waits for the answers to some inputs.

    Invariants: `future` ends once: with every answer in the order of the inputs, or with one error. Whoever
    closes the request ends it, and nobody else; only who holds the lock may put and close.
    """

    def __init__(self, size: int) -> None:
        """Wait for `size` answers."""
        self.future: Future[list[Result]] = Future()
        self._answers: list[Result | None] = [None] * size
        self._missing = size
        self._is_closed = False

    def put(self, index: int, answer: Result) -> bool:
        """Take an answer and tell whether it was the last one, which closes the request."""
        self._answers[index] = answer
        self._missing -= 1
        return self._missing == 0 and self.close()

    def close(self) -> bool:
        """Tell whether it was open until now: then it is the caller who ends it."""
        was_open, self._is_closed = not self._is_closed, True
        return was_open

    def end(self) -> None:
        """Give the answers to who waits, unless nobody does any more."""
        answers = [answer for answer in self._answers if answer is not None]
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answers)

    def fail(self, error: Exception) -> None:
        """Give an error to who waits, unless nobody does any more."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class QueueItem:
    """One input in a lane, with everybody who waits for it.

    Attributes:
        tenant: Who sent it.
        model: Which model it is for.
        digest: sha256 of the input.
        input: The text, or the pair.
        waiters: The requests, and the place of the answer in each.
    """

    tenant: str
    model: ModelKey
    digest: bytes
    input: Input
    waiters: list[tuple[Request, int]] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not all(request.future.done() for request, _ in self.waiters)

    @property
    def characters(self) -> int:
        """Its length."""
        return len(self.input) if isinstance(self.input, str) else sum(map(len, self.input))


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """How a lane works.

    Attributes:
        name: What metrics call it.
        threads: Batches it computes at once.
        window_seconds: How long the first input waits for others to share its batch.
        most_inputs: Most inputs taken at once.
        most_characters: Inputs are taken until they have this many characters; ends a turn of long ones.
        is_kept: Whether answers are looked for, and kept, in the database.
    """

    name: str
    threads: int = 1
    window_seconds: float = 0.0
    most_inputs: int = 16
    most_characters: int = 16_000
    is_kept: bool = False


class InferenceQueue:
    """The queue of one lane: a ring of tenants, each with its inputs in order.

    Invariants, under the lock: `waiting` is the number of entries in the ring. No entry waits longer
    than the window while a thread is idle. Every turn takes one input of each tenant before a second one.
    """

    def __init__(self, spec: QueueSpec, lock: threading.Lock) -> None:
        """Make an empty lane.

        Args:
            spec: How it works.
            lock: Held by whoever calls anything here.
        """
        self.spec = spec
        self.waiting = 0
        self._ring: OrderedDict[tuple[str, ModelKey], deque[QueueItem]] = OrderedDict()
        self._wake = threading.Condition(lock)
        self._since = 0.0
        self._is_closed = False

    def put(self, entry: QueueItem) -> None:
        """Let an entry wait."""
        if not self.waiting:
            self._since = time.monotonic()
        self._ring.setdefault((entry.tenant, entry.model), deque()).append(entry)
        self.waiting += 1
        # Not for every entry: a thread in its window would wake up two thousand times in a burst.
        if self.waiting == 1 or self.waiting % self.spec.most_inputs == 0:
            self._wake.notify()

    def take(self) -> tuple[list[QueueItem], list[QueueItem]] | None:
        """Wait for entries; nothing when the lane was closed.

        Returns:
            Entries for one model, and those met on the way that nobody waits for any more.
        """
        while not self._is_closed:
            if not self.waiting:
                self._wake.wait()
                continue
            left = self._since + self.spec.window_seconds - time.monotonic()
            if left <= 0 or self.waiting >= self.spec.most_inputs:
                return self._take_turn()
            self._wake.wait(left)
        return None

    def close(self) -> list[QueueItem]:
        """Let every thread go and return what waited."""
        self._is_closed = True
        left = [entry for queue in self._ring.values() for entry in queue]
        self._ring.clear()
        self.waiting = 0
        self._wake.notify_all()
        return left

    def _take_turn(self) -> tuple[list[QueueItem], list[QueueItem]]:
        taken: list[QueueItem] = []
        unwanted: list[QueueItem] = []
        characters = 0
        while len(taken) < self.spec.most_inputs and characters < self.spec.most_characters:
            key = next((key for key in self._ring if not taken or key[1] == taken[0].model), None)
            if key is None:
                break
            queue = self._ring.pop(key)
            entry = queue.popleft()
            self.waiting -= 1
            if queue:
                self._ring[key] = queue
            if entry.is_wanted:
                taken.append(entry)
                characters += entry.characters
            else:
                unwanted.append(entry)
        if self.waiting:
            self._wake.notify()
        return taken, unwanted
