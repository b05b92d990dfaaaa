"""`/events`: changes of jobs as server-sent events, resumable with `Last-Event-ID`."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Header, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

from emberq.api.auth import Caller, Reader, ServicesDep
from emberq.api.schemas import job_out
from emberq.errors import InvalidRequest
from emberq.store.jobs.queries import changed_jobs, get_job
from emberq.store.schema.job_states import ENDED_STATES
from emberq.store.services import Services

router = APIRouter(tags=["events"])

#: Seconds between two polls for changes.
_POLL_SECONDS = 0.3
#: Sequence numbers that each poll reads again: a transaction may commit a lower number after a higher
#: one was read. Far more than the number of transactions that can be open at once.
_OVERLAP = 200
#: Most digits of an event's id.
_ID_DIGITS = 18


@router.get("/jobs/{job_id}/events")
async def job_events(
    job_id: uuid.UUID,
    request: Request,
    caller: Reader,
    services: ServicesDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventSourceResponse:
    """Stream the changes of one job; the stream ends when the job ends."""

    def check() -> None:
        with services.database.tenant_transaction(caller.tenant) as connection:
            get_job(connection, caller.tenant, job_id)

    await anyio.to_thread.run_sync(check)
    return EventSourceResponse(_changes(request, caller, services, _sequence(last_event_id), job_id))


@router.get("/events")
async def all_events(
    request: Request,
    caller: Reader,
    services: ServicesDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventSourceResponse:
    """Stream the changes of all jobs, from the first change or from the one after `Last-Event-ID`."""
    return EventSourceResponse(_changes(request, caller, services, _sequence(last_event_id), None))


def _sequence(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= _ID_DIGITS):
        raise InvalidRequest("Last-Event-ID: must be the id of an event of this stream.")
    return int(last_event_id)


async def _changes(
    request: Request, caller: Caller, services: Services, after: int, job_id: uuid.UUID | None
) -> AsyncIterator[ServerSentEvent]:
    sent: deque[int] = deque(maxlen=_OVERLAP * 4)
    highest = after

    def poll() -> list[tuple[int, str, str]]:
        low = max(after, highest - _OVERLAP)
        with services.database.tenant_transaction(caller.tenant) as connection:
            rows = changed_jobs(connection, caller.tenant, after=low, job_id=job_id)
        return [(row["seq"], row["state"], job_out(row).model_dump_json()) for row in rows]

    while not await request.is_disconnected():
        for seq, state, data in await anyio.to_thread.run_sync(poll):
            if seq in sent:
                continue
            sent.append(seq)
            highest = max(highest, seq)
            yield ServerSentEvent(data=data, event="job", id=str(seq))
            if job_id is not None and state in ENDED_STATES:
                return
        await anyio.sleep(_POLL_SECONDS)
