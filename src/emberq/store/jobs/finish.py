"""The end of an attempt without a commit: retried, snoozed, released, failed, quarantined or cancelled.

A failed attempt that met an error of the embedding provider also counts in the tenant's circuit breaker
(`emberq.store.jobs.breaker`).
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from emberq.errors import (
    Cancelled,
    EmberqError,
    ExtractionTimeout,
    JobStalled,
    JobTimeout,
    MemoryLimitExceeded,
    Quarantined,
    WorkerLost,
)
from emberq.retry.backoff import Backoff
from emberq.store.jobs.breaker import is_outage_of_provider, record_provider_failure, snooze_until_probe
from emberq.store.jobs.fence import in_state
from emberq.store.jobs.transitions import move
from emberq.store.schema.job_states import (
    BACK_OFF,
    FAIL,
    QUARANTINE,
    RELEASE,
    REQUEUE,
    SNOOZE,
    STOP,
    Guard,
    JobState,
    Transition,
    end_of_attempt,
)
from emberq.store.schema.tables import Job

#: Longest time between two attempts.
_MAX_RETRY_PAUSE_SECONDS = 3600.0
#: The part of a delay that is cut off at random, so that jobs that failed together do not return together.
_JITTER = 0.2
#: Delays after the second requeue in a row and further ones. A horse that dies before the claim is not the
#: file's fault, so the job is not quarantined; but without a delay it would be delivered some thirty times a
#: second. Once the host works again, its jobs run within a minute.
_REQUEUE_BACKOFF = Backoff(first_seconds=0.5, longest_seconds=60.0)
#: The errors of a file that takes more time or memory than it may. The first may be the fault of a busy
#: machine; the second is the file's, and a third would hold a worker for nothing.
_OVER_BUDGET = frozenset(
    error.code for error in (ExtractionTimeout, MemoryLimitExceeded, JobTimeout, JobStalled)
)
#: Ended attempts kept with a job; retries by users could add to them without limit.
_MAX_KEPT_ATTEMPTS = 100


def retry_pause_seconds(error: EmberqError, *, attempt: int, retry_delay_seconds: float) -> float:
    """Return how many seconds a job waits after a failed attempt.

    Args:
        error: Why it failed; its class has a factor for the delay (`EmberqError.retry_pause`).
        attempt: The number of the attempt; each one doubles the delay.
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
    is_outage: bool = False,
) -> str | None:
    """End an attempt: back to `pending` if another one may succeed, otherwise `failed` or `cancelled`.

    An error of the embedding provider is recorded in the tenant's circuit breaker.

    Args:
        connection: The transaction.
        job_id: The job.
        error: Why the attempt ended.
        fence: The token of the attempt; if there is a newer claim, this call does nothing.
        ticket: Identifies the attempt in place of the token, for a caller that only knows the ticket.
        worker: With a ticket: the worker that popped it. A ticket may exist twice; an attempt that
            another worker claimed with its copy is left alone.
        retry_delay_seconds: The setting job_retry_delay, the base of the delay.
        stage: The stage in which it happened; the last stage written if left out.
        detail: More for the reader of the job's record, such as a traceback.
        is_outage: Whether PostgreSQL or the blob store was unavailable. The attempt is then not counted.

    Returns:
        The job's new state, or nothing if the job is not in this attempt any more.

    Raises:
        TypeError: If neither fence nor ticket is given.
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
            Job.requeues,
            func.clock_timestamp().label("now"),
        )
        .where(Job.id == job_id, _is_attempt(fence=fence, ticket=ticket, worker=worker))
        .with_for_update()
    ).one_or_none()
    if job is None:
        return None
    if job.state == JobState.QUEUED:
        _requeue(connection, job_id, job, error)
        return JobState.PENDING.value
    probe_at = record_provider_failure(connection, job.tenant, error)
    if probe_at is not None:
        is_outage |= is_outage_of_provider(error, attempt=job.attempt, max_attempts=job.max_attempts)
    end = end_of_attempt(_facts(job, error, is_outage=is_outage))
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
        ][-_MAX_KEPT_ATTEMPTS:],
    }
    if end is BACK_OFF:
        pause = retry_pause_seconds(error, attempt=job.attempt, retry_delay_seconds=retry_delay_seconds)
        values["not_before"] = func.now() + timedelta(seconds=pause)
    elif end is SNOOZE and probe_at is not None:
        values |= snooze_until_probe(error, attempt=job.attempt, probe_at=probe_at)
    elif end is SNOOZE:
        pause = retry_pause_seconds(
            error, attempt=_times_in_a_row(job, error), retry_delay_seconds=retry_delay_seconds
        )
        values |= {"attempt": job.attempt - 1, "not_before": func.now() + timedelta(seconds=pause)}
    else:
        values |= {"ended_at": func.now(), "quarantined": end is QUARANTINE}
    connection.execute(move(end, fence=job.fence).where(Job.id == job_id).values(**values))
    return str(end.target)


def release_attempt(
    connection: Connection, job_id: uuid.UUID, *, ticket: str, worker: str | None
) -> str | None:
    """Release an attempt that was cut off, but not by its file or a cancellation; it is not counted.

    Returns:
        The job's new state, or nothing if the job is not in this attempt, is not claimed yet, or is to be
        cancelled: the caller then calls `fail_attempt`.
    """
    fence = connection.execute(
        select(Job.fence)
        .where(
            Job.id == job_id,
            in_state(*RELEASE.sources),
            _is_attempt(fence=None, ticket=ticket, worker=worker),
        )
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


def _requeue(connection: Connection, job_id: uuid.UUID, job: Any, error: EmberqError) -> None:
    """Requeue a job whose horse died before the claim; delayed if that happened the last time, too."""
    not_before: Any = None
    if job.requeues:
        not_before = func.now() + timedelta(seconds=_REQUEUE_BACKOFF.pause_seconds(job.requeues))
    connection.execute(
        move(REQUEUE, ticket=job.ticket)
        .where(Job.id == job_id)
        .values(
            requeues=Job.requeues + 1,
            not_before=not_before,
            error={**error.as_dict(), "stage": None, "attempt": job.attempt, "at": job.now.isoformat()},
            error_code=error.code,
        )
    )


def _is_attempt(*, fence: int | None, ticket: str | None, worker: str | None) -> ColumnElement[bool]:
    """Return the condition that a job is in the attempt of a fence, or of a ticket and a worker."""
    if fence is not None:
        return and_(in_state(*BACK_OFF.sources), Job.fence == fence)
    if ticket is None:
        msg = "An attempt is identified by its fencing token or its ticket."
        raise TypeError(msg)
    claimed = in_state(*BACK_OFF.sources)
    if worker is not None:
        claimed = and_(claimed, Job.worker == worker)
    return and_(Job.ticket == ticket, or_(in_state(*REQUEUE.sources), claimed))


def _times_in_a_row(job: Any, error: EmberqError) -> int:
    """Return how many attempts in a row ended with the same error, this one included."""
    codes = [attempt["code"] for attempt in job.attempts]
    return 1 + next((n for n, code in enumerate(reversed(codes)) if code != error.code), len(codes))


def _facts(job: Any, error: EmberqError, *, is_outage: bool) -> frozenset[Guard]:
    is_cancelled = job.cancel_requested_at is not None or isinstance(error, Cancelled)
    return frozenset(
        {
            Guard.CANCEL_REQUESTED if is_cancelled else Guard.CANCEL_NOT_REQUESTED,
            Guard.OUTAGE if is_outage else Guard.NO_OUTAGE,
            Guard.RETRYABLE
            if error.retryable and not _is_over_budget_again(job, error)
            else Guard.NOT_RETRYABLE,
            Guard.ATTEMPTS_LEFT if job.attempt < job.max_attempts else Guard.ATTEMPTS_EXHAUSTED,
            Guard.WORKER_LOST if isinstance(error, WorkerLost) else Guard.WORKER_ALIVE,
        }
    )


def _describe(end: Transition, error: EmberqError, job: Any) -> EmberqError:
    """Return the error that the job shows: a cancellation or a quarantine replaces the attempt's own."""
    if end is STOP:
        return error if isinstance(error, Cancelled) else Cancelled()
    if end is QUARANTINE:
        lost = 1 + sum(attempt["code"] == WorkerLost.code for attempt in _since_first_attempt(job))
        return Quarantined(
            f"The file ended its worker in {lost} of {job.attempt} attempts and was quarantined;"
            f" last: {error.message}"
        )
    if end is FAIL and error.retryable:
        return type(error)(
            f"{error.message} It is the second time that the file took too much time or memory, so it is not"
            " tried again.",
            hint=error.hint,
            **error.context,
        )
    return error


def _is_over_budget_again(job: Any, error: EmberqError) -> bool:
    """Return whether this attempt and an earlier one ended because the file took too much time or memory."""
    earlier = {attempt["code"] for attempt in _since_first_attempt(job)}
    return error.code in _OVER_BUDGET and not earlier.isdisjoint(_OVER_BUDGET)


def _since_first_attempt(job: Any) -> list[dict[str, Any]]:
    """Return the ended attempts since the count last began at one: a retry by a user restarts it."""
    attempts: list[dict[str, Any]] = []
    upper = job.attempt
    for attempt in reversed(job.attempts):
        if attempt["attempt"] > upper:
            break
        upper = attempt["attempt"]
        attempts.append(attempt)
    return attempts
