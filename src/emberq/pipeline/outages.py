"""Outages of PostgreSQL during an attempt: its transactions are retried, and the attempt may not count."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from rq.timeouts import JobTimeoutException

from emberq.errors import DatabaseUnavailable, EmberqError, StorageUnavailable
from emberq.retry.backoff import Backoff
from emberq.retry.classify import ErrorKind, classify_db_error
from emberq.retry.operation import Retrying
from emberq.telemetry.logs import get_logger
from emberq.worker.job.progress import report_waiting

P = ParamSpec("P")
R = TypeVar("R")

log = get_logger(__name__)

#: Seconds for which an attempt retries a transaction, with growing pauses. A restart or a failover takes
#: less, and the work done so far is kept. After that the attempt fails, and its job is delayed.
_RETRY_SECONDS = 120.0


def retry_during_outage(
    *, idempotent: bool = True, total_seconds: float = _RETRY_SECONDS, backoff: Backoff | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retry a function with one transaction while PostgreSQL is away, for two minutes by default.

    Args:
        idempotent: Whether to run it twice has the same effect as to run it once.
        total_seconds: Time after which no further attempt begins.
        backoff: Pauses between attempts; the common ones where left out.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def reported(*args: P.args, **kwargs: P.kwargs) -> R:
            report_waiting()
            return function(*args, **kwargs)

        return Retrying(
            classify_db_error,
            idempotent=idempotent,
            max_retries=None,
            total_seconds=total_seconds,
            backoff=backoff,
        )(reported)

    return decorate


def retry_forever(function: Callable[P, R], *, backoff: Backoff | None = None) -> Callable[P, R]:
    """Retry a function with one transaction until PostgreSQL is back, even after the job's time-out.

    The end of an attempt must be recorded: as long as its host lives, no other process does it. The worker
    still ends a horse that takes far too long, and then releases the job itself.
    """
    once = retry_during_outage(backoff=backoff)(function)

    @wraps(function)
    def until_recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                return once(*args, **kwargs)
            except JobTimeoutException:
                log.warning("attempt_end_not_recorded", operation=function.__qualname__, error="JobTimeout")
            except DatabaseUnavailable as exc:
                if classify_db_error(exc) is ErrorKind.PERMANENT:
                    raise
                log.warning("attempt_end_not_recorded", operation=function.__qualname__, error=exc.message)

    return until_recorded


def is_outage(error: EmberqError) -> bool:
    """Return whether an attempt failed because an engine was away and did nothing.

    A connection that broke during a commit does not count as an outage: the file itself may have crashed
    PostgreSQL, and would do so again and again if its attempts did not count.
    """
    if isinstance(error, DatabaseUnavailable):
        return classify_db_error(error) is ErrorKind.NOTHING_HAPPENED
    return isinstance(error, StorageUnavailable)
