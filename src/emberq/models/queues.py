"""Inference queues: inputs that wait for a model, served in turns between tenants."""

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

#: A text, or a query and a text that belong together.
Input: TypeAlias = "str | tuple[str, str]"


class Model(Protocol):
    """A model that computes one row of numbers for each input; safe to use from several threads."""

    @property
    def fingerprint(self) -> str:
        """A text that changes with anything that changes a row."""

    def canonical(self, one: Input, /) -> Input:
        """Return the representative of all inputs that the model cannot tell apart from this one."""

    def compute(self, inputs: Sequence[Input], /) -> tuple[NDArray[np.float32], list[int]]:
        """Return the rows, `[inputs, columns]`, and the number of tokens of each input."""


class ModelKey(NamedTuple):
    """A model's kind and name; the kind `embedding` makes vectors of texts, `reranking` scores of pairs."""

    kind: Literal["embedding", "reranking"]
    name: str


class Result(NamedTuple):
    """A model's result for one input: its row, `[columns]`, and the number of tokens."""

    row: NDArray[np.float32]
    tokens: int


class InferenceRequest:
    """Inputs that were submitted together, and the future of their results.

    Invariants: `future` ends once, with all results in the order of the inputs or with one error. Only the
    caller whose `put` or `close` returned True ends it. `put` and `close` need the batcher's lock.
    """

    def __init__(self, size: int) -> None:
        self.future: Future[list[Result]] = Future()
        self._results: list[Result | None] = [None] * size
        self._missing = size
        self._is_closed = False

    def put(self, index: int, result: Result) -> bool:
        """Add a result; return whether it was the last one and closed the request."""
        self._results[index] = result
        self._missing -= 1
        return self._missing == 0 and self.close()

    def close(self) -> bool:
        """Close the request; return whether it was open until now."""
        was_open, self._is_closed = not self._is_closed, True
        return was_open

    def end(self) -> None:
        """Set the future's results, unless it was cancelled."""
        results = [result for result in self._results if result is not None]
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(results)

    def fail(self, error: Exception) -> None:
        """Set the future's error, unless it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class QueueItem:
    """One input in a queue, with all requests that wait for its result.

    Attributes:
        tenant: The tenant that sent it.
        model: The model it is for.
        digest: SHA-256 of the input.
        input: The text, or the pair.
        waiters: The requests, and the index of the input in each.
    """

    tenant: str
    model: ModelKey
    digest: bytes
    input: Input
    waiters: list[tuple[InferenceRequest, int]] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        """Whether any request still waits for it."""
        return not all(request.future.done() for request, _ in self.waiters)

    @property
    def characters(self) -> int:
        """Length of the input."""
        return len(self.input) if isinstance(self.input, str) else sum(map(len, self.input))


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """The parameters of an inference queue.

    Attributes:
        name: Its name, also in metrics.
        threads: Number of batches computed at once.
        window_seconds: How long the first input waits for others to share its batch.
        most_inputs: Most inputs of a batch.
        most_characters: A batch is full once its inputs have this many characters.
        is_stored: Whether results are read from and written to the database.
    """

    name: str
    threads: int = 1
    window_seconds: float = 0.0
    most_inputs: int = 16
    most_characters: int = 16_000
    is_stored: bool = False


class InferenceQueue:
    """Items in order of arrival for each tenant and model; batches take from the tenants in turn.

    Invariants, under the lock: `waiting` is the number of items. No item waits longer than the window
    while a thread is idle. A batch takes one item of each tenant before a second one of any tenant.
    """

    def __init__(self, spec: QueueSpec, lock: threading.Lock) -> None:
        """Create an empty queue.

        Args:
            spec: Its parameters.
            lock: The lock that callers acquire around every call.
        """
        self.spec = spec
        self.waiting = 0
        self._items: OrderedDict[tuple[str, ModelKey], deque[QueueItem]] = OrderedDict()
        self._not_empty = threading.Condition(lock)
        self._since = 0.0
        self._is_closed = False

    def put(self, item: QueueItem) -> None:
        """Append an item."""
        if not self.waiting:
            self._since = time.monotonic()
        self._items.setdefault((item.tenant, item.model), deque()).append(item)
        self.waiting += 1
        # Not for every item: a burst of two thousand would wake a thread in its window as many times.
        if self.waiting == 1 or self.waiting % self.spec.most_inputs == 0:
            self._not_empty.notify()

    def take_batch(self) -> tuple[list[QueueItem], list[QueueItem]] | None:
        """Wait for items and remove a batch of them.

        Returns:
            Items for one model, and the removed items that no request waits for any more; None once the
            queue is closed.
        """
        while not self._is_closed:
            if not self.waiting:
                self._not_empty.wait()
                continue
            left = self._since + self.spec.window_seconds - time.monotonic()
            if left <= 0 or self.waiting >= self.spec.most_inputs:
                return self._remove_batch()
            self._not_empty.wait(left)
        return None

    def close(self) -> list[QueueItem]:
        """Close the queue, wake all threads, and return the items that were waiting."""
        self._is_closed = True
        left = [item for items in self._items.values() for item in items]
        self._items.clear()
        self.waiting = 0
        self._not_empty.notify_all()
        return left

    def _remove_batch(self) -> tuple[list[QueueItem], list[QueueItem]]:
        batch: list[QueueItem] = []
        unwanted: list[QueueItem] = []
        characters = 0
        while len(batch) < self.spec.most_inputs and characters < self.spec.most_characters:
            key = next((key for key in self._items if not batch or key[1] == batch[0].model), None)
            if key is None:
                break
            items = self._items.pop(key)
            item = items.popleft()
            self.waiting -= 1
            if items:
                self._items[key] = items
            if item.is_wanted:
                batch.append(item)
                characters += item.characters
            else:
                unwanted.append(item)
        if self.waiting:
            self._not_empty.notify()
        return batch, unwanted
