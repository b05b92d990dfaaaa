"""The end of an attempt that did not commit: tried again, failed, set aside or cancelled, reasons kept."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from emberq.errors import Cancelled, EmberqError, Quarantined, WorkerLost
from emberq.retry.backoff import Backoff
from emberq.store.jobs.breaker import hold_back, may_hold_back, note_failure
from emberq.store.jobs.transitions import in_state, move
from emberq.store.schema.job_states import (
    BACK_OFF,
    GIVE_BACK,
    HOLD_BACK,
    QUARANTINE,
    RELEASE,
    STOP,
    Guard,
    JobState,
    Transition,
    end_of_attempt,
)
from emberq.store.schema.tables import Job

__all__ = ["fail_attempt", "release_attempt", "retry_pause_seconds"]

#: Longest time between two attempts.
_MAX_RETRY_PAUSE_SECONDS = 3600.0
#: The part of a pause that is cut off at random, so that jobs that failed together do not return together.
_JITTER = 0.2
#: Pauses of a job that comes back unclaimed for the second time in a row and more often. Horses that die
#: before they claim a job are not the file's fault, so it is not quarantined; without a pause it would be
#: delivered some thirty times a second. Once the host is well again, its jobs run within a minute.
_RETURN_BACKOFF = Backoff(first_seconds=0.5, longest_seconds=60.0)
#: Reasons kept with a job; retries by hand may add to them without limit.
_MAX_REASONS = 100


def retry_pause_seconds(error: EmberqError, *, attempt: int, retry_delay_seconds: float) -> float:
    """Return how long a job waits after an attempt that failed.

    Args:
        error: Why it failed; its class says how long to wait (`EmberqError.retry_pause`).
        attempt: The number of the attempt; each one doubles the pause.
        retry_delay_seconds: The setting job_retry_delay.
    """
    first = error.retry_pause * retry_delay_seconds
    return Backoff(first, _MAX_RETRY_PAUSE_SECONDS, jitter=_JITTER).pause_seconds(attempt)


def fail_attempt(
    connection: Connection,
    job_id: uuid.UUID,
    error: EmberqError,
    *,
    fence: int | None = None,
    ticket: str | None = None,
    worker: str | None = None,
    retry_delay_seconds: float,
    stage: str | None = None,
    detail: str | None = None,
    blameless: bool = False,
) -> str | None:
    """End an attempt: back to `pending` if another one may help, otherwise `failed` or `cancelled`.

    Args:
        connection: The transaction.
        job_id: The job.
        error: Why the attempt ended.
        fence: The token of the attempt; a newer claim makes this call do nothing.
        ticket: Names the attempt in place of the token, for those who only saw the ticket.
        worker: With a ticket: the worker that had it. Two copies of a ticket may be about; the one
            that another worker claimed the job with is not this one's to end.
        retry_delay_seconds: The setting job_retry_delay; the error's class makes the pause of it.
        stage: Where it happened; the last stage written if left out.
        detail: More for whoever looks into it, such as a traceback.
        blameless: Whether the file had no part in it: PostgreSQL or the blob store was away. The attempt
            is then not counted.

    Returns:
        The job's new state, or nothing if it was no longer this attempt's.

    Raises:
        TypeError: If neither token is shown.
    """
    job = connection.execute(
        select(
            Job.tenant,
            Job.state,
            Job.attempt,
            Job.max_attempts,
            Job.stage,
            Job.worker,
            Job.fence,
            Job.ticket,
            Job.cancel_requested_at,
            Job.attempts,
            Job.returned,
            func.clock_timestamp().label("now"),
        )
        .where(Job.id == job_id, _held(fence=fence, ticket=ticket, worker=worker))
        .with_for_update()
    ).one_or_none()
    if job is None:
        return None
    if job.state == JobState.QUEUED:
        _give_back(connection, job_id, job, error)
        return JobState.PENDING.value
    probe_at = note_failure(connection, job.tenant, error)
    end = end_of_attempt(_facts(job, error, provider_is_away=probe_at is not None, blameless=blameless))
    where = {"stage": stage or job.stage, "attempt": job.attempt, "at": job.now.isoformat()}
    shown = _describe(end, error, job)
    values: dict[str, Any] = {
        "worker": None,
        "host_id": None,
        "error": {**shown.as_dict(), **where, **({"detail": detail} if detail else {})},
        "error_code": shown.code,
        # The attempt's own error, also where the job shows a quarantine or a cancellation.
        "attempts": [
            *job.attempts,
            {"code": error.code, "message": error.message, "worker": job.worker, **where},
        ][-_MAX_REASONS:],
    }
    if end is BACK_OFF:
        pause = retry_pause_seconds(error, attempt=job.attempt, retry_delay_seconds=retry_delay_seconds)
        values["not_before"] = func.now() + timedelta(seconds=pause)
    elif end is HOLD_BACK and probe_at is not None:
        values |= hold_back(error, attempt=job.attempt, probe_at=probe_at)
    elif end is HOLD_BACK:
        pause = retry_pause_seconds(
            error, attempt=_times_in_a_row(job, error), retry_delay_seconds=retry_delay_seconds
        )
        values |= {"attempt": job.attempt - 1, "not_before": func.now() + timedelta(seconds=pause)}
    else:
        values |= {"ended_at": func.now(), "quarantined": end is QUARANTINE}
    connection.execute(move(end, fence=job.fence).where(Job.id == job_id).values(**values))
    return str(end.target)


def release_attempt(connection: Connection, job_id: uuid.UUID, *, ticket: str, worker: str) -> str | None:
    """Take back an attempt that was ended because its worker was told to leave; it is not counted.

    Args:
        connection: The transaction.
        job_id: The job.
        ticket: The ticket that the worker had.
        worker: The worker.

    Returns:
        The job's new state, or nothing if it is not this attempt's, not claimed yet, or to be stopped:
        `fail_attempt` knows what to do with it then.
    """
    fence = connection.execute(
        select(Job.fence)
        .where(Job.id == job_id, in_state(*RELEASE.sources), _held(fence=None, ticket=ticket, worker=worker))
        .with_for_update()
    ).scalar_one_or_none()
    if fence is None:
        return None
    moved = connection.execute(
        move(RELEASE, fence=fence)
        .where(Job.id == job_id)
        .values(attempt=Job.attempt - 1, worker=None, host_id=None, stage=None)
    )
    return JobState.PENDING.value if moved.rowcount else None


def _give_back(connection: Connection, job_id: uuid.UUID, job: Any, error: EmberqError) -> None:
    """Give back a job that nobody claimed: at once, unless that is how its last delivery ended, too."""
    pause: Any = None
    if job.returned:
        pause = func.now() + timedelta(seconds=_RETURN_BACKOFF.pause_seconds(job.returned))
    connection.execute(
        move(GIVE_BACK, ticket=job.ticket)
        .where(Job.id == job_id)
        .values(
            returned=Job.returned + 1,
            not_before=pause,
            error={**error.as_dict(), "stage": None, "attempt": job.attempt, "at": job.now.isoformat()},
            error_code=error.code,
        )
    )


def _held(*, fence: int | None, ticket: str | None, worker: str | None) -> ColumnElement[bool]:
    """Return the condition that the attempt shown is the one the job is in."""
    if fence is not None:
        return and_(in_state(*BACK_OFF.sources), Job.fence == fence)
    if ticket is None:
        msg = "An attempt is named by its fencing token or its ticket."
        raise TypeError(msg)
    claimed = in_state(*BACK_OFF.sources)
    if worker is not None:
        claimed = and_(claimed, Job.worker == worker)
    return and_(Job.ticket == ticket, or_(in_state(*GIVE_BACK.sources), claimed))


def _times_in_a_row(job: Any, error: EmberqError) -> int:
    """Return how often the job has met the same error without another one between, this time included."""
    codes = [reason["code"] for reason in job.attempts]
    return 1 + next((n for n, code in enumerate(reversed(codes)) if code != error.code), len(codes))


def _facts(job: Any, error: EmberqError, *, provider_is_away: bool, blameless: bool) -> frozenset[Guard]:
    asked = job.cancel_requested_at is not None or isinstance(error, Cancelled)
    forgiven = blameless or (
        provider_is_away and may_hold_back(error, attempt=job.attempt, max_attempts=job.max_attempts)
    )
    return frozenset(
        {
            Guard.ASKED_TO_STOP if asked else Guard.NOT_ASKED_TO_STOP,
            Guard.PROVIDER_AWAY if forgiven else Guard.PROVIDER_FINE,
            Guard.RETRYABLE if error.retryable else Guard.NOT_RETRYABLE,
            Guard.ATTEMPTS_LEFT if job.attempt < job.max_attempts else Guard.ATTEMPTS_USED_UP,
            Guard.WORKER_LOST if isinstance(error, WorkerLost) else Guard.WORKER_LIVES,
        }
    )


def _describe(end: Transition, error: EmberqError, job: Any) -> EmberqError:
    """Return the error the job shows: a cancellation or a quarantine hides what the last attempt met."""
    if end is STOP:
        return error if isinstance(error, Cancelled) else Cancelled()
    if end is QUARANTINE:
        lost = 1 + sum(reason["code"] == WorkerLost.code for reason in _since_first_attempt(job))
        return Quarantined(
            f"The file ended its worker in {lost} of {job.attempt} attempts and was set aside;"
            f" last: {error.message}"
        )
    return error


def _since_first_attempt(job: Any) -> list[dict[str, Any]]:
    """Return the reasons of this count's attempts: a retry by hand began again at one."""
    reasons: list[dict[str, Any]] = []
    upper = job.attempt
    for reason in reversed(job.attempts):
        if reason["attempt"] > upper:
            break
        upper = reason["attempt"]
        reasons.append(reason)
    return reasons
