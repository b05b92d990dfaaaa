"""The job feed: one poll for the changes of jobs, whose findings go to all event streams."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

import anyio
import anyio.to_thread

from emberq.api.auth import Caller, KeyCache
from emberq.api.schemas import job_out
from emberq.config.current import get_worker_config
from emberq.errors import EmberqError, RateLimited, Unauthorized
from emberq.store.jobs.queries import job_changes, jobs_at
from emberq.store.schema.job_states import ENDED_STATES
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds between two polls for changes.
_POLL_SECONDS = 0.3
#: Sequence numbers that each poll reads again: a transaction may commit a lower number after a higher
#: one was read. Far more than the number of transactions that can be open at once.
_OVERLAP = 200
#: Most changes that a stream is given at once.
_PAGE = 500


class JobEvent(NamedTuple):
    """A change of a job: its sequence number, the state, and the job as JSON."""

    seq: int
    state: str
    data: str


class JobStream:
    """One client's stream of changes; iterate over it, and close it.

    Attributes:
        caller: Whose jobs it tells of.
        job_id: Only this job; the stream ends with it.
        position: The highest sequence number that was sent.
    """

    def __init__(self, caller: Caller, after: int, job_id: uuid.UUID | None) -> None:
        self.caller = caller
        self.job_id = job_id
        self.position = self._after = after
        self._sent: OrderedDict[int, None] = OrderedDict()
        self._ready: deque[JobEvent] = deque()
        self._changed = asyncio.Event()
        self._is_ended = False

    @property
    def low(self) -> int:
        """The sequence number after which changes may be missing."""
        return max(self._after, self.position - _OVERLAP)

    @property
    def is_waiting(self) -> bool:
        """Whether everything found so far was sent; a client that does not read is given nothing more."""
        return not self._ready and not self._is_ended

    def missing(self, seqs: Iterable[int]) -> list[int]:
        """Return those of the changes that this stream has not had."""
        return [seq for seq in seqs if seq > self._after and seq not in self._sent]

    def put(self, events: Iterable[JobEvent]) -> None:
        """Add changes, in order."""
        for event in events:
            self._sent[event.seq] = None
            self.position = max(self.position, event.seq)
            self._ready.append(event)
        while len(self._sent) > 2 * (_OVERLAP + _PAGE):
            self._sent.popitem(last=False)
        self._changed.set()

    def end(self) -> None:
        """End the stream once what was found has been sent."""
        self._is_ended = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[JobEvent]:
        """Yield the changes until the job ends, the key is revoked, or the process stops."""
        while self._ready or not self._is_ended:
            self._changed.clear()
            while self._ready:
                event = self._ready.popleft()
                yield event
                if self.job_id is not None and event.state in ENDED_STATES:
                    return
            if not self._is_ended:
                await self._changed.wait()


class JobFeed:
    """Polls for all streams of this process.

    Invariants: the poll uses one thread and one connection, however many streams there are. A stream gets
    each state of a job that a poll saw, once. It ends within a poll of its key's end. While there is no
    stream, nothing is queried.
    """

    def __init__(self, services: Callable[[], Services], keys: KeyCache) -> None:
        self._services = services
        self._keys = keys
        self._streams: set[JobStream] = set()
        self._poller: asyncio.Task[None] | None = None

    def open(self, caller: Caller, *, after: int, job_id: uuid.UUID | None = None) -> JobStream:
        """Open a stream of the changes after a sequence number; close it with `close`.

        Raises:
            RateLimited: If the key has as many streams as it may.
        """
        most = get_worker_config().for_tenant(caller.tenant).key_max_streams
        if sum(stream.caller.key == caller.key for stream in self._streams) >= most:
            raise RateLimited(f"This key has {most} event streams already (key_max_streams).")
        stream = JobStream(caller, after, job_id)
        self._streams.add(stream)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return stream

    def close(self, stream: JobStream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)

    def stop(self) -> None:
        """End all streams, because the process stops."""
        for stream in self._streams:
            stream.end()

    async def _poll(self) -> None:
        limiter = anyio.CapacityLimiter(1)
        while self._streams:
            pause = _POLL_SECONDS
            try:
                await self._end_invalid()
                for tenant in {stream.caller.tenant for stream in self._streams}:
                    waiting = [one for one in self._streams if one.caller.tenant == tenant and one.is_waiting]
                    found = await anyio.to_thread.run_sync(self._find, tenant, waiting, limiter=limiter)
                    for stream, events in found.items():
                        stream.put(events)
                        # A long past is read page by page, without a pause.
                        pause = 0.0 if len(events) >= _PAGE - _OVERLAP else pause
            except EmberqError as exc:
                log.warning("event_poll_failed", error_code=exc.code, error=exc.message)
            except Exception as exc:
                log.exception("event_poll_failed", error=type(exc).__name__)
            await asyncio.sleep(pause)

    async def _end_invalid(self) -> None:
        """End the streams whose key is not valid any more."""
        for key in {stream.caller.key for stream in self._streams}:
            try:
                await self._keys.identify(key)
            except Unauthorized:
                for stream in self._streams:
                    if stream.caller.key == key:
                        stream.end()

    def _find(self, tenant: str, streams: list[JobStream]) -> dict[JobStream, list[JobEvent]]:
        """Return what each of a tenant's streams has not had yet; run in a thread."""
        jobs = {stream.job_id for stream in streams if stream.job_id is not None}
        missing: dict[JobStream, list[int]] = {}
        with self._services().database.tenant_transaction(tenant) as connection:
            changes = {
                low: job_changes(connection, tenant, after=low, limit=_PAGE)
                for low in {stream.low for stream in streams if stream.job_id is None}
            }
            of_jobs = job_changes(connection, tenant, job_ids=jobs) if jobs else {}
            for stream in streams:
                seqs = changes[stream.low] if stream.job_id is None else of_jobs
                missing[stream] = stream.missing(
                    seq for seq, job_id in seqs.items() if stream.job_id in (None, job_id)
                )
            wanted = {seq for seqs in missing.values() for seq in seqs}
            rows = jobs_at(connection, tenant, wanted) if wanted else []
        events = {
            row["seq"]: JobEvent(row["seq"], row["state"], job_out(row).model_dump_json()) for row in rows
        }
        # A job that has changed again meanwhile is found by the next poll.
        return {
            stream: [events[seq] for seq in sorted(seqs) if seq in events]
            for stream, seqs in missing.items()
            if seqs
        }
