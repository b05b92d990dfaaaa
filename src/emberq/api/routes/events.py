"""`/events`: changes of jobs as server-sent events, resumable with `Last-Event-ID`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Header, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from emberq.api.auth import Reader, ServicesDep
from emberq.api.job_feed import JobFeed, JobStream
from emberq.errors import InvalidRequest
from emberq.store.jobs.queries import get_job
from emberq.store.schema.job_states import ENDED_STATES

router = APIRouter(tags=["events"])

#: Most digits of an event's id.
_ID_DIGITS = 18

LastEventId = Annotated[str | None, Header(description="The id of the last event that was received.")]


class _EventResponse(EventSourceResponse):
    """A response that streams the changes of jobs, and closes its stream however it ends."""

    def __init__(self, feed: JobFeed, stream: JobStream) -> None:
        super().__init__(_events(stream))
        self._feed = feed
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.close(self._stream)


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse, responses={204: {}})
async def job_events(
    job_id: uuid.UUID,
    request: Request,
    caller: Reader,
    services: ServicesDep,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream the changes of one job; the stream ends when the job ends.

    204 means that it had ended with the event of `Last-Event-ID`: there is nothing more to come.
    """
    after = _sequence(last_event_id)

    def has_ended() -> bool:
        with services.database.tenant_transaction(caller.tenant) as connection:
            job = get_job(connection, caller.tenant, job_id)
        return job["state"] in ENDED_STATES and job["seq"] <= after

    if await anyio.to_thread.run_sync(has_ended):
        return Response(status_code=204)
    feed: JobFeed = request.app.state.job_feed
    return _EventResponse(feed, feed.open(caller, after=after, job_id=job_id))


@router.get("/events", response_class=EventSourceResponse)
async def all_events(request: Request, caller: Reader, last_event_id: LastEventId = None) -> Response:
    """Stream the changes of all jobs, from the first change or from the one after `Last-Event-ID`."""
    feed: JobFeed = request.app.state.job_feed
    return _EventResponse(feed, feed.open(caller, after=_sequence(last_event_id)))


def _sequence(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= _ID_DIGITS):
        raise InvalidRequest("Last-Event-ID: must be the id of an event of this stream.")
    return int(last_event_id)


async def _events(stream: JobStream) -> AsyncIterator[ServerSentEvent]:
    async for event in stream:
        yield ServerSentEvent(data=event.data, event="job", id=str(event.seq))
