"""The circuit breaker of a tenant's embedding provider.

An outage of one tenant's provider blocks no other tenant and uses up no attempts. `fail_attempt` records
each provider failure, and several in a row open the breaker: admission then delays the tenant's jobs
(`waiting_reason` `backoff`). After a delay one job is admitted as a probe. If the probe fails, the next
delay is longer. The commit of any file closes the breaker.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, text, update

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable, EmberqError
from emberq.retry.backoff import Backoff
from emberq.store.schema.job_states import JobState
from emberq.store.schema.tables import Breaker, Job, job_sequence

#: Errors of the provider. A rejection may also be the file's fault, unless every file is rejected.
PROVIDER_CODES = frozenset({EmbeddingUnavailable.code, EmbeddingRejected.code})
#: Failures in a row that open the breaker: fewer may be bad luck or bad files.
_THRESHOLD = 5
#: Seconds after which a failure no longer counts towards the threshold.
_WINDOW_SECONDS = 600.0
#: Delays before the probes: a provider that is back is noticed within ten minutes. The statement below does
#: the same arithmetic in SQL.
_BACKOFF = Backoff(first_seconds=30.0, longest_seconds=600.0)

#: Seconds between a probe's due time and the `not_before` of a snoozed job, so that another job is the probe.
_AFTER_PROBE_SECONDS = 1.0

#: Until the probe is due, failures of jobs that were already running change nothing: only probes lengthen
#: the delay.
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


def record_provider_failure(connection: Connection, tenant: str, error: EmberqError) -> datetime | None:
    """Count a failed attempt against the breaker if its error is one of the embedding provider.

    Returns:
        The time of the next probe if the breaker is open now; nothing if it is closed, or if the error
        is of another kind.
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


def is_outage_of_provider(error: EmberqError, *, attempt: int, max_attempts: int) -> bool:
    """Tell whether an attempt that met an open breaker failed because of the outage.

    An unavailable provider is never the file's fault. A provider that rejects may be right about this
    file: after `max_attempts` rejections the file fails, so that every job ends.
    """
    return error.retryable or attempt < max_attempts


def snooze_until_probe(error: EmberqError, *, attempt: int, probe_at: datetime) -> dict[str, Any]:
    """Return the changed columns of a job that waits for the provider.

    It becomes ready a little after the next probe is due, so that another job is the next probe.
    """
    return {
        "attempt": attempt - 1 if error.retryable else attempt,
        "not_before": probe_at + timedelta(seconds=_AFTER_PROBE_SECONDS),
    }


def close_breaker(connection: Connection, tenant: str) -> None:
    """Forget the tenant's provider failures and make its snoozed jobs ready: a file was stored."""
    if connection.execute(delete(Breaker).where(Breaker.tenant == tenant)).rowcount:
        _make_ready(connection, tenant)


def probe_now(connection: Connection, tenant: str) -> None:
    """Let the next probe run at once, as when a user says that the provider works again."""
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
