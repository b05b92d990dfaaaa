"""The circuit breaker of one tenant's embedding provider: a dead key blocks nobody and burns no attempts.

Closed while all is well. Several provider failures in a row open it: admission then holds the tenant's
jobs back (`backoff`). After a pause one job is let through to look; if it fails as well, the next pause
is longer, and the first file that is stored closes the breaker.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, text, update

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable, EmberqError
from emberq.retry.backoff import Backoff
from emberq.store.schema.tables import Breaker, Job, JobState, job_sequence

__all__ = ["PROVIDER_CODES", "close_breaker", "hold_back", "may_hold_back", "note_failure", "probe_now"]

#: Errors that speak of the provider rather than of the file, as long as every file meets them.
PROVIDER_CODES = frozenset({EmbeddingUnavailable.code, EmbeddingRejected.code})
#: Failures in a row that open the breaker: fewer may be bad luck or bad files.
_THRESHOLD = 5
#: Seconds after which an old failure no longer belongs to the row.
_WINDOW_SECONDS = 600.0
#: Pauses before the probes: a provider that is back is noticed within ten minutes. The statement below does
#: the same arithmetic in SQL.
_BACKOFF = Backoff(first_seconds=30.0, longest_seconds=600.0)

#: Seconds after a probe is due until the job of the last one may be the next.
_AFTER_PROBE_SECONDS = 1.0

#: While the pause lasts, failures of jobs that ran already change nothing: only probes lengthen it.
_RECORD = text("""
INSERT INTO breakers AS known (tenant, failures, error_code, failed_at)
VALUES (:tenant, 1, :error_code, now())
ON CONFLICT (tenant) DO UPDATE SET
    error_code = excluded.error_code,
    failed_at = CASE WHEN known.retry_at > now() THEN known.failed_at ELSE now() END,
    failures = CASE
        WHEN known.retry_at > now() THEN known.failures
        WHEN known.retry_at IS NULL AND known.failed_at < now() - make_interval(secs => :window) THEN 1
        ELSE known.failures + 1
    END,
    retry_at = CASE
        WHEN known.retry_at > now() THEN known.retry_at
        WHEN known.retry_at IS NULL AND known.failed_at < now() - make_interval(secs => :window) THEN NULL
        WHEN known.failures + 1 >= :threshold THEN
            now() + make_interval(secs => least(
                :longest, :first * power(:factor, least(known.failures + 1 - :threshold, 20))))
    END
RETURNING retry_at
""")


def note_failure(connection: Connection, tenant: str, error: EmberqError) -> datetime | None:
    """Count a failed attempt if its error speaks of the tenant's provider.

    Returns:
        When the next probe goes, if the breaker is open now; nothing while it is closed, or if the
        error is of another kind.
    """
    if error.code not in PROVIDER_CODES:
        return None
    probe_at: datetime | None = connection.execute(
        _RECORD,
        {
            "tenant": tenant,
            "error_code": error.code,
            "threshold": _THRESHOLD,
            "window": _WINDOW_SECONDS,
            "first": _BACKOFF.first_seconds,
            "factor": _BACKOFF.factor,
            "longest": _BACKOFF.longest_seconds,
        },
    ).scalar_one()
    return probe_at


def may_hold_back(error: EmberqError, *, attempt: int, max_attempts: int) -> bool:
    """Tell whether an attempt that met an open breaker is forgiven.

    A provider that is away is never the file's fault. One that refuses may be right about this file:
    after `max_attempts` refusals the file fails, so that every job comes to an end.
    """
    return error.retryable or attempt < max_attempts


def hold_back(error: EmberqError, *, attempt: int, probe_at: datetime) -> dict[str, Any]:
    """Return what changes in a job that goes back to wait for the provider.

    It becomes ready a little after the next probe is due, so that another job is the next probe.
    """
    return {
        "attempt": attempt - 1 if error.retryable else attempt,
        "not_before": probe_at + timedelta(seconds=_AFTER_PROBE_SECONDS),
    }


def close_breaker(connection: Connection, tenant: str) -> None:
    """Forget the tenant's failures: a file got through, so what was held back is ready at once."""
    if connection.execute(delete(Breaker).where(Breaker.tenant == tenant)).rowcount:
        _make_ready(connection, tenant)


def probe_now(connection: Connection, tenant: str) -> None:
    """Let the next probe through at once: somebody says that the provider works again."""
    opened = connection.execute(
        update(Breaker)
        .where(Breaker.tenant == tenant, Breaker.retry_at > func.now())
        .values(retry_at=func.now())
    ).rowcount
    if opened:
        _make_ready(connection, tenant)


def _make_ready(connection: Connection, tenant: str) -> None:
    connection.execute(
        update(Job)
        .where(
            Job.tenant == tenant,
            Job.state == JobState.PENDING,
            Job.not_before.is_not(None),
            Job.error_code.in_(PROVIDER_CODES),
        )
        .values(not_before=None, seq=job_sequence.next_value())
    )
