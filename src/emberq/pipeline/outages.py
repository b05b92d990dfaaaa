"""Patience with PostgreSQL: what an attempt does while it is away, and what is not the attempt's fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from rq.timeouts import JobTimeoutException

from emberq.errors import DatabaseUnavailable, EmberqError, StorageUnavailable
from emberq.retry.classify import ErrorKind, classify_db_error
from emberq.retry.operation import retry_db_operation
from emberq.telemetry.logs import get_logger
from emberq.worker.job.progress import report_waiting

__all__ = ["is_outage", "retry_during_outage", "retry_forever"]

P = ParamSpec("P")
R = TypeVar("R")

log = get_logger(__name__)

#: Seconds an attempt waits, with growing pauses, for a PostgreSQL that went away under it: a restart and a
#: failover are over by then, and the work done so far is kept. Afterwards the job is held back instead.
_PATIENCE_SECONDS = 120.0


def retry_during_outage(*, idempotent: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run one transaction of an attempt again while PostgreSQL is away, for two minutes.

    Args:
        idempotent: Whether doing it twice is the same as once.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def not_stalled(*args: P.args, **kwargs: P.kwargs) -> R:
            report_waiting()
            return function(*args, **kwargs)

        return retry_db_operation(idempotent=idempotent, max_retries=None, total_seconds=_PATIENCE_SECONDS)(
            not_stalled
        )

    return decorate


def retry_forever(function: Callable[P, R]) -> Callable[P, R]:
    """Do it however long PostgreSQL stays away, even when the job's time is over meanwhile.

    What an attempt came to has to be written down: nobody else looks after a job whose host lives. The
    worker, which watches from outside, ends a horse that takes far too long, and gives the job back itself.
    """
    once = retry_during_outage()(function)

    @wraps(function)
    def written(*args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                return once(*args, **kwargs)
            except JobTimeoutException:
                log.warning("end_not_written_yet", operation=function.__qualname__, error="JobTimeout")
            except DatabaseUnavailable as exc:
                if classify_db_error(exc) is ErrorKind.PERMANENT:
                    raise
                log.warning("end_not_written_yet", operation=function.__qualname__, error=exc.message)

    return written


def is_outage(error: EmberqError) -> bool:
    """Tell whether an attempt ended because an engine was away that said so, and did nothing.

    A connection that broke under a commit is another matter: the file itself may have brought PostgreSQL
    down, and would do so for ever if its attempts were not counted.
    """
    if isinstance(error, DatabaseUnavailable):
        return classify_db_error(error) is ErrorKind.NOTHING_HAPPENED
    return isinstance(error, StorageUnavailable)
