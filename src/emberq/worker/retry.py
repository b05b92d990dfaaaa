"""Retry what is transient and safe to do twice; raise everything else at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import stamina
from redis.exceptions import BusyLoadingError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from emberq.errors import DatabaseUnavailable, RedisUnavailable

__all__ = ["is_transient_db_error", "is_transient_redis_error", "retry_db_operation", "retry_redis_operation"]

P = ParamSpec("P")
R = TypeVar("R")

#: SQLSTATEs after which the same transaction may succeed: serialization failure, deadlock, read-only
#: replica after a failover, too many connections, and the server starting, stopping or breaking off.
_TRANSIENT_SQLSTATES = frozenset(
    {
        "40001",
        "40P01",
        "25006",
        "53300",
        "57P01",
        "57P02",
        "57P03",
        "08000",
        "08001",
        "08003",
        "08004",
        "08006",
    }
)
#: Seconds all attempts together may take; a caller that waits longer is better told.
_TOTAL_SECONDS = 30.0


def is_transient_db_error(error: Exception) -> bool:
    """Tell whether a database error may be gone the next time."""
    if isinstance(error, DatabaseUnavailable):
        return True
    cause = getattr(error, "orig", error)
    if getattr(cause, "sqlstate", None) in _TRANSIENT_SQLSTATES:
        return True
    # SQLAlchemy marks errors that closed the connection; such have no SQLSTATE.
    return bool(getattr(error, "connection_invalidated", False))


def is_transient_redis_error(error: Exception) -> bool:
    """Tell whether a Redis error may be gone the next time."""
    transient = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, RedisUnavailable)
    return isinstance(error, transient)


def retry_db_operation(
    *, max_retries: int = 3, total_seconds: float = _TOTAL_SECONDS
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a function again when the database blinked.

    Decorate only units that are idempotent or one transaction: what may have happened is done twice.
    Waits 0.1 s, then twice as long each time, with jitter. Works on sync and async functions.

    Args:
        max_retries: Attempts after the first one.
        total_seconds: Bound for all attempts together.
    """
    return stamina.retry(
        on=is_transient_db_error,
        attempts=max_retries + 1,
        timeout=total_seconds,
        wait_initial=0.1,
        wait_max=5.0,
    )


def retry_redis_operation(
    *, max_retries: int = 3, total_seconds: float = _TOTAL_SECONDS
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a function again when Redis blinked; the same rules as `retry_db_operation`.

    Args:
        max_retries: Attempts after the first one.
        total_seconds: Bound for all attempts together.
    """
    return stamina.retry(
        on=is_transient_redis_error,
        attempts=max_retries + 1,
        timeout=total_seconds,
        wait_initial=0.1,
        wait_max=5.0,
    )
