"""Run an operation again where that is safe and may help; raise every other error at once.

An error may say that nothing happened (a refused connection, a deadlock), or leave that open (the connection
broke before the answer came). After the first kind an operation is always tried again, after the second only
if it is declared idempotent. An operation is one transaction, one Redis command or one MULTI: of several
commands, the first may have happened when the second is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from emberq.retry.backoff import Backoff
from emberq.retry.classify import ErrorKind, classify_db_error, classify_redis_error
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

P = ParamSpec("P")
R = TypeVar("R")

log = get_logger(__name__)

#: Seconds after which no further attempt begins: a caller that waits longer should be told.
_TOTAL_SECONDS = 30.0
#: Pauses between attempts: 0.2, 0.6 and 1.8 s at least and twice as much at most, about four seconds in all;
#: an engine restarts in less.
_BACKOFF = Backoff(first_seconds=0.4, longest_seconds=5.0, factor=3.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class Retrying:
    """How to retry: a decorator of sync and async functions, and an iterable of attempts of a block.

    Attributes:
        classify: Tells what an error means for another attempt.
        operation: The name in metrics and logs; the decorated function's where it is empty.
        idempotent: Whether to try again when the operation may have happened.
        max_retries: Attempts after the first one; None for as many as fit into `total_seconds`.
        total_seconds: Time after which no further attempt begins.
        backoff: Pauses between attempts; the common ones where left out.
    """

    classify: Callable[[BaseException], ErrorKind]
    operation: str = ""
    idempotent: bool = False
    max_retries: int | None = 3
    total_seconds: float = _TOTAL_SECONDS
    backoff: Backoff | None = None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function; a coroutine function stays one."""
        named = replace(self, operation=self.operation or f"{function.__module__}.{function.__qualname__}")
        if inspect.iscoroutinefunction(function):
            return cast("Callable[P, R]", _retry_coroutine(named, function))

        @wraps(function)
        def retried(*args: P.args, **kwargs: P.kwargs) -> R:
            for attempt in named:
                with attempt:
                    return function(*args, **kwargs)
            raise AssertionError  # pragma: no cover - the last attempt returns or raises

        return retried

    def __iter__(self) -> Iterator[RetriedAttempt]:
        """Return the attempts; they end with the first that succeeds, or with the error of the last one."""
        return _Attempts(self)

    def __aiter__(self) -> AsyncIterator[RetriedAttempt]:
        """Return the attempts for `async for`: pauses do not block the event loop."""
        return _Attempts(self)


def _retry_coroutine(
    retrying: Retrying, function: Callable[..., Awaitable[R]]
) -> Callable[..., Awaitable[R]]:
    @wraps(function)
    async def retried(*args: Any, **kwargs: Any) -> R:
        async for attempt in retrying:
            with attempt:
                return await function(*args, **kwargs)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    return retried


class _Attempts:
    """The attempts at one operation, for `for` and for `async for`."""

    def __init__(self, retrying: Retrying) -> None:
        self._retrying = retrying
        self._name = retrying.operation or "block"
        self._began_at = time.monotonic()
        self._number = 0
        #: The pause before the next attempt; None if there is none to come.
        self._pause: float | None = 0.0

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> RetriedAttempt:
        if self._pause is None:
            raise StopIteration
        if self._pause:
            time.sleep(self._pause)
        return self._begin()

    async def __anext__(self) -> RetriedAttempt:
        if self._pause is None:
            raise StopAsyncIteration
        if self._pause:
            await asyncio.sleep(self._pause)
        return self._begin()

    def _begin(self) -> RetriedAttempt:
        self._number += 1
        self._pause = None
        return RetriedAttempt(self._number, self._end)

    def _end(self, error: BaseException | None) -> bool:
        """Take note of how the attempt ended; returns whether another one follows."""
        if error is None:
            if self._number > 1:
                metrics.count_retry(operation=self._name, outcome="recovered")
            return False
        retrying = self._retrying
        kind = retrying.classify(error) if isinstance(error, Exception) else ErrorKind.PERMANENT
        if kind is ErrorKind.PERMANENT:
            return False
        if kind is ErrorKind.UNKNOWN and not retrying.idempotent:
            outcome = "not_idempotent"
        else:
            self._pause = self._next_pause()
            outcome = "exhausted" if self._pause is None else "retried"
        metrics.count_retry(operation=self._name, outcome=outcome)
        # Without the error's text, which quotes the parameters of a statement.
        told = {"operation": self._name, "error": type(error).__name__}
        if self._pause is None:
            log.warning("retry_gave_up", outcome=outcome, **told)
            return False
        log.warning("retry_scheduled", retry=self._number, wait_seconds=round(self._pause, 2), **told)
        return True

    def _next_pause(self) -> float | None:
        """Return the pause before another attempt, None if there may be none."""
        retrying = self._retrying
        if retrying.max_retries is not None and self._number > retrying.max_retries:
            return None
        pause = (retrying.backoff or _BACKOFF).pause_seconds(self._number)
        begins_after = time.monotonic() - self._began_at + pause
        return pause if begins_after <= retrying.total_seconds else None


class RetriedAttempt:
    """One attempt of a block, from number 1: `with attempt:`.

    An error that allows another attempt ends in the block.
    """

    def __init__(self, num: int, end: Callable[[BaseException | None], bool]) -> None:
        self.num = num
        self._end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._end(error)


def retry_db_operation(
    operation: str = "",
    *,
    idempotent: bool = False,
    max_retries: int | None = 3,
    total_seconds: float = _TOTAL_SECONDS,
) -> Retrying:
    """Run one transaction again after an error of PostgreSQL that passes.

    Always tried again: refused connections, serialization failures, deadlocks, read-only replicas, a server
    that is starting. Tried again only if `idempotent`: a connection that broke, as the commit may have
    reached the server. Never: a wrong password, a missing database, any other error. Works with psycopg,
    SQLAlchemy and asyncpg. The first pause is 0.2 to 0.4 s, each further one three times as long, up to 5 s.

    Args:
        operation: Name in metrics and logs; the function's own where left out.
        idempotent: Whether running it twice has the effect of running it once.
        max_retries: Attempts after the first one; None for as many as fit into `total_seconds`.
        total_seconds: Time after which no further attempt begins; a running one is not cut short.

    Example:
        >>> @retry_db_operation(idempotent=True)
        ... def read_names(): ...
        >>> for attempt in retry_db_operation("read_names", idempotent=True):
        ...     with attempt:
        ...         ...
    """
    return Retrying(classify_db_error, operation, idempotent, max_retries, total_seconds)


def retry_redis_operation(
    operation: str = "",
    *,
    idempotent: bool = False,
    max_retries: int | None = 3,
    total_seconds: float = _TOTAL_SECONDS,
) -> Retrying:
    """Run one Redis command or MULTI again after an error of Redis that passes.

    Always tried again: refused connections, LOADING, READONLY, CLUSTERDOWN, MASTERDOWN, TRYAGAIN, too many
    clients, a primary that Sentinel does not know yet. Tried again only if `idempotent`: a broken connection
    and a time-out, as the command may have been executed. Never: a refused login, any other error. Pauses
    are those of `retry_db_operation`.

    Args:
        operation: Name in metrics and logs; the function's own where left out.
        idempotent: Whether running it twice has the effect of running it once.
        max_retries: Attempts after the first one; None for as many as fit into `total_seconds`.
        total_seconds: Time after which no further attempt begins; a running one is not cut short.
    """
    return Retrying(classify_redis_error, operation, idempotent, max_retries, total_seconds)
