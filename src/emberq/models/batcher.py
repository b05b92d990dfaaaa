"""One queue for all who need a model now: many small requests become few batches, each text once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from emberq.errors import EmberqError, InternalError, InvalidRequest, ServiceStopping
from emberq.models.cache import RecentAnswers, StoredVectors
from emberq.models.queues import InferenceQueue, Input, Model, ModelKey, QueueItem, QueueSpec, Request, Result
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

__all__ = ["BULK", "QUERY", "RERANK", "Batcher", "queue_specs"]

log = get_logger(__name__)

#: Lanes by what is wanted: the vector of a query somebody waits for, scores for a search's results, and
#: vectors for an index. Each has threads of its own, so that the first two never wait behind the third.
QUERY, RERANK, BULK = "query", "rerank", "bulk"
#: Seconds a text waits for others; clients that send one text per request send all of a file within it.
_WINDOW_SECONDS = 0.005
#: Texts looked up in the database, and computed, in one turn of a bulk thread.
_BULK_INPUTS = 64
#: Seconds a thread gets to end its turn when the process stops.
_STOP_SECONDS = 10.0


def queue_specs(*, bulk_threads: int) -> list[QueueSpec]:
    """Return the lanes of the service.

    Args:
        bulk_threads: Threads of the bulk lane; half of the processors if 0.
    """
    threads = bulk_threads or max(1, (os.cpu_count() or 1) // 2)
    return [
        QueueSpec(QUERY),
        QueueSpec(RERANK),
        QueueSpec(
            BULK, threads=threads, window_seconds=_WINDOW_SECONDS, most_inputs=_BULK_INPUTS, is_kept=True
        ),
    ]


class Batcher:
    """Takes inputs from any thread, and answers them in batches from threads of its own.

    Invariants: every request gets the answers to its own inputs, in their order, whatever else shares
    its batches; of equal inputs of a tenant in one lane only one is computed at a time; what nobody
    waits for any more when its turn comes is not computed.
    """

    def __init__(
        self, lanes: Iterable[QueueSpec], *, load: Callable[[ModelKey], Model], stored: StoredVectors
    ) -> None:
        """Make the lanes; nothing runs yet.

        Args:
            lanes: How each lane works.
            load: Returns a model, loading it if it must; called by the lanes' threads.
            stored: Answers that outlive the process, for the lanes that keep theirs.
        """
        self._lock = threading.Lock()
        self._lanes = {spec.name: InferenceQueue(spec, self._lock) for spec in lanes}
        self._load = load
        self._stored = stored
        self._recent = RecentAnswers()
        self._in_flight: dict[tuple[Any, ...], QueueItem] = {}
        self._threads: list[threading.Thread] = []
        self._is_leaving = False

    def start(self) -> None:
        """Start the threads."""
        for name, lane in self._lanes.items():
            for number in range(lane.spec.threads):
                thread = threading.Thread(
                    target=self._work, args=(lane,), name=f"emberq-{name}-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def submit(
        self, lane: str, inputs: Sequence[Input], *, tenant: str, model: ModelKey
    ) -> Future[list[Result]]:
        """Ask for the answers to some inputs; cancel the future if they are not wanted any more.

        Args:
            lane: The lane's name.
            inputs: Texts, or pairs, as the model takes them; at least one.
            tenant: Whose; no tenant learns what another one asked for.
            model: Which model.

        Returns:
            The answers, in the order of the inputs; or `ServiceStopping`, or what loading and running the
            model raise.

        Raises:
            InvalidRequest: If a text is not valid Unicode.
            ServiceStopping: If this process takes nothing more.
        """
        digests = [_digest(one) for one in inputs]
        request = Request(len(inputs))
        hits = 0
        with self._lock:
            if self._is_leaving:
                raise ServiceStopping
            is_done = False
            for index, (one, digest) in enumerate(zip(inputs, digests, strict=True)):
                known = self._recent.get((tenant, model, digest))
                if known is not None:
                    hits += 1
                    is_done = request.put(index, known)
                    continue
                key = (lane, tenant, model, digest)
                entry = self._in_flight.get(key)
                if entry is None:
                    entry = self._in_flight[key] = QueueItem(tenant, model, digest, one)
                    self._lanes[lane].put(entry)
                else:
                    hits += 1
                entry.waiters.append((request, index))
            waiting = self._lanes[lane].waiting
        metrics.vectors_looked_up(hits=hits, misses=0)
        metrics.texts_wait(lane, number=waiting)
        if is_done:
            request.end()
        return request.future

    def waiting(self, lane: str) -> int:
        """Return how many inputs wait in a lane."""
        with self._lock:
            return self._lanes[lane].waiting

    def leave(self) -> None:
        """Answer everybody who waits with `ServiceStopping`, and whoever comes from now on."""
        with self._lock:
            self._is_leaving = True
            left = [entry for lane in self._lanes.values() for entry in lane.close()]
            waiting = _close_all(left)
            self._in_flight.clear()
        for request in waiting:
            request.fail(ServiceStopping())

    def close(self) -> None:
        """Leave, and wait until the threads have ended."""
        self.leave()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def _work(self, lane: InferenceQueue) -> None:
        while True:
            with self._lock:
                turn = lane.take()
                if turn is None:
                    return
                entries, unwanted = turn
                waiting = lane.waiting
                for entry in unwanted:
                    self._forget(lane, entry)
            metrics.texts_wait(lane.spec.name, number=waiting)
            if entries:
                self._take_turn(lane, entries)

    def _take_turn(self, lane: InferenceQueue, entries: list[QueueItem]) -> None:
        try:
            model = self._load(entries[0].model)
            if lane.spec.is_kept:
                # Open WebUI sends the texts of a knowledge file twice, the second time with single spaces.
                for entry in entries:
                    entry.input = model.canonical(entry.input)
                entries = self._answer_from_store(lane, model, entries)
            if not entries:
                return
            rows, tokens = model.compute([entry.input for entry in entries])
        except Exception as exc:  # noqa: BLE001 - those who wait are told, and the thread goes on
            self._fail(lane, entries, exc)
            return
        answers = [Result(row.copy(), number) for row, number in zip(rows, tokens, strict=True)]
        metrics.vectors_looked_up(hits=0, misses=len(entries))
        self._answer(lane, entries, answers)
        if lane.spec.is_kept:
            self._stored.keep(model.fingerprint, entries, answers)

    def _answer_from_store(
        self, lane: InferenceQueue, model: Model, entries: list[QueueItem]
    ) -> list[QueueItem]:
        """Answer what the database knows and return the rest."""
        found = self._stored.find(model.fingerprint, entries)
        known = [entry for entry in entries if entry in found]
        metrics.vectors_looked_up(hits=len(known), misses=0)
        self._answer(lane, known, [found[entry] for entry in known])
        return [entry for entry in entries if entry not in found]

    def _answer(self, lane: InferenceQueue, entries: list[QueueItem], answers: list[Result]) -> None:
        done: list[Request] = []
        with self._lock:
            for entry, answer in zip(entries, answers, strict=True):
                self._recent.put((entry.tenant, entry.model, entry.digest), answer)
                self._forget(lane, entry)
                done += [request for request, index in entry.waiters if request.put(index, answer)]
        for request in done:
            request.end()

    def _fail(self, lane: InferenceQueue, entries: list[QueueItem], exc: Exception) -> None:
        error = exc if isinstance(exc, EmberqError) else InternalError()
        log.warning(
            "batch_failed", lane=lane.spec.name, error_code=error.code, error=str(exc), inputs=len(entries)
        )
        with self._lock:
            waiting = _close_all(entries)
            for entry in entries:
                self._forget(lane, entry)
        for request in waiting:
            request.fail(error)

    def _forget(self, lane: InferenceQueue, entry: QueueItem) -> None:
        self._in_flight.pop((lane.spec.name, entry.tenant, entry.model, entry.digest), None)


def _close_all(entries: Iterable[QueueItem]) -> list[Request]:
    return [request for entry in entries for request, _ in entry.waiters if request.close()]


def _digest(one: Input) -> bytes:
    text = one if isinstance(one, str) else "\0".join(one)
    try:
        return hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(
            "A text is not valid Unicode: it has half of a surrogate pair.", hint="Send valid UTF-8."
        ) from exc
