"""The batcher: inputs of many requests are computed together, in few batches, and each input once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from emberq.errors import EmberqError, InternalError, InvalidRequest, ServiceStopping
from emberq.models.cache import RecentResults, StoredVectors
from emberq.models.queues import (
    InferenceQueue,
    InferenceRequest,
    Input,
    Model,
    ModelKey,
    QueueItem,
    QueueSpec,
    Result,
)
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: The service's queues: vectors of queries that a person waits for, scores of search results, and vectors
#: for an index. Each has threads of its own, so the first two never wait behind the third.
QUERY, RERANK, BULK = "query", "rerank", "bulk"
#: Seconds a text waits for others; clients that send one text per request send all of a file within it.
_WINDOW_SECONDS = 0.005
#: Most texts of a bulk batch, which is looked up in the database and computed at once.
_BULK_INPUTS = 64
#: Seconds a thread gets to finish its batch when the process stops.
_STOP_SECONDS = 10.0


def queue_specs(*, bulk_threads: int) -> list[QueueSpec]:
    """Return the queues of the service.

    Args:
        bulk_threads: Threads of the bulk queue; 0 stands for half of the processors.
    """
    threads = bulk_threads or max(1, (os.cpu_count() or 1) // 2)
    return [
        QueueSpec(QUERY),
        QueueSpec(RERANK),
        QueueSpec(
            BULK, threads=threads, window_seconds=_WINDOW_SECONDS, most_inputs=_BULK_INPUTS, is_stored=True
        ),
    ]


class Batcher:
    """Takes inputs from any thread and computes them in batches, in threads of its own.

    Invariants: every request gets the results of its own inputs, in their order, whatever else shares
    its batches. Of equal inputs of a tenant in one queue, only one is computed at a time. An input that
    no request waits for any more when its turn comes is not computed.
    """

    def __init__(
        self, specs: Iterable[QueueSpec], *, load: Callable[[ModelKey], Model], stored: StoredVectors
    ) -> None:
        """Create the queues; no thread runs yet.

        Args:
            specs: The queues.
            load: Returns a model, loading it if necessary; called in the batcher's threads.
            stored: The results in the database, for queues with `is_stored`.
        """
        self._lock = threading.Lock()
        self._queues = {spec.name: InferenceQueue(spec, self._lock) for spec in specs}
        self._load = load
        self._stored = stored
        self._recent = RecentResults()
        self._in_flight: dict[tuple[Any, ...], QueueItem] = {}
        self._threads: list[threading.Thread] = []
        self._is_stopping = False

    def start(self) -> None:
        """Start the threads."""
        for name, queue in self._queues.items():
            for number in range(queue.spec.threads):
                thread = threading.Thread(
                    target=self._work, args=(queue,), name=f"emberq-{name}-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def submit(
        self, queue: str, inputs: Sequence[Input], *, tenant: str, model: ModelKey
    ) -> Future[list[Result]]:
        """Submit inputs and return the future of their results; cancel it if they are no longer needed.

        Args:
            queue: The queue's name.
            inputs: Texts, or pairs, as the model takes them; at least one.
            tenant: The sender; results are never shared between tenants.
            model: The model.

        Returns:
            The results, in the order of the inputs. The future may also end with `ServiceStopping`, or with
            the error that loading or running the model raised.

        Raises:
            InvalidRequest: If a text is not valid Unicode.
            ServiceStopping: If the process is stopping.
        """
        digests = [_digest(one) for one in inputs]
        request = InferenceRequest(len(inputs))
        hits = 0
        with self._lock:
            if self._is_stopping:
                raise ServiceStopping
            is_done = False
            for index, (one, digest) in enumerate(zip(inputs, digests, strict=True)):
                known = self._recent.get((tenant, model, digest))
                if known is not None:
                    hits += 1
                    is_done = request.put(index, known)
                    continue
                key = (queue, tenant, model, digest)
                item = self._in_flight.get(key)
                if item is None:
                    item = self._in_flight[key] = QueueItem(tenant, model, digest, one)
                    self._queues[queue].put(item)
                else:
                    hits += 1
                item.waiters.append((request, index))
            waiting = self._queues[queue].waiting
        metrics.count_vector_lookups(hits=hits, misses=0)
        metrics.set_waiting_texts(queue, number=waiting)
        if is_done:
            request.end()
        return request.future

    def waiting(self, queue: str) -> int:
        """Return the number of inputs that wait in a queue."""
        with self._lock:
            return self._queues[queue].waiting

    def stop(self) -> None:
        """Fail all waiting requests with `ServiceStopping`, and refuse new ones."""
        with self._lock:
            self._is_stopping = True
            left = [item for queue in self._queues.values() for item in queue.close()]
            waiting = _close_requests(left)
            self._in_flight.clear()
        for request in waiting:
            request.fail(ServiceStopping())

    def close(self) -> None:
        """Stop, and wait until the threads have ended."""
        self.stop()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def _work(self, queue: InferenceQueue) -> None:
        while True:
            with self._lock:
                taken = queue.take_batch()
                if taken is None:
                    return
                batch, unwanted = taken
                waiting = queue.waiting
                for item in unwanted:
                    self._forget(queue, item)
            metrics.set_waiting_texts(queue.spec.name, number=waiting)
            if batch:
                self._compute(queue, batch)

    def _compute(self, queue: InferenceQueue, batch: list[QueueItem]) -> None:
        try:
            model = self._load(batch[0].model)
            if queue.spec.is_stored:
                # Open WebUI sends the texts of a knowledge file twice, the second time with single spaces.
                for item in batch:
                    item.input = model.canonical(item.input)
                batch = self._end_stored(queue, model, batch)
            if not batch:
                return
            rows, tokens = model.compute([item.input for item in batch])
        except Exception as exc:  # noqa: BLE001 - the waiting requests get the error, and the thread goes on
            self._fail(queue, batch, exc)
            return
        results = [Result(row.copy(), number) for row, number in zip(rows, tokens, strict=True)]
        metrics.count_vector_lookups(hits=0, misses=len(batch))
        self._end(queue, batch, results)
        if queue.spec.is_stored:
            self._stored.store(model.fingerprint, batch, results)

    def _end_stored(self, queue: InferenceQueue, model: Model, batch: list[QueueItem]) -> list[QueueItem]:
        """End the items whose results are in the database, and return the others."""
        found = self._stored.find(model.fingerprint, batch)
        known = [item for item in batch if item in found]
        metrics.count_vector_lookups(hits=len(known), misses=0)
        self._end(queue, known, [found[item] for item in known])
        return [item for item in batch if item not in found]

    def _end(self, queue: InferenceQueue, batch: list[QueueItem], results: list[Result]) -> None:
        done: list[InferenceRequest] = []
        with self._lock:
            for item, result in zip(batch, results, strict=True):
                self._recent.put((item.tenant, item.model, item.digest), result)
                self._forget(queue, item)
                done += [request for request, index in item.waiters if request.put(index, result)]
        for request in done:
            request.end()

    def _fail(self, queue: InferenceQueue, batch: list[QueueItem], exc: Exception) -> None:
        error = exc if isinstance(exc, EmberqError) else InternalError()
        log.warning(
            "batch_failed", queue=queue.spec.name, error_code=error.code, error=str(exc), inputs=len(batch)
        )
        with self._lock:
            waiting = _close_requests(batch)
            for item in batch:
                self._forget(queue, item)
        for request in waiting:
            request.fail(error)

    def _forget(self, queue: InferenceQueue, item: QueueItem) -> None:
        self._in_flight.pop((queue.spec.name, item.tenant, item.model, item.digest), None)


def _close_requests(items: Iterable[QueueItem]) -> list[InferenceRequest]:
    """Close the requests that wait for these items; return those that were open."""
    return [request for item in items for request, _ in item.waiters if request.close()]


def _digest(one: Input) -> bytes:
    text = one if isinstance(one, str) else "\0".join(one)
    try:
        return hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(
            "A text is not valid Unicode: it has half of a surrogate pair.", hint="Send valid UTF-8."
        ) from exc
