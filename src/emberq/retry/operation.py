"""Retry what is transient and safe to do twice; raise everything else at once.

An error may say that nothing happened (a refused connection, a deadlock), or leave it open (the
connection broke before the answer came). The first kind is tried again always, the second only where the
unit of work is declared idempotent. A unit is one transaction, one Redis command or one MULTI: of a unit
with several, the first may have happened when the second is refused.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

import stamina
from stamina.instrumentation import RetryDetails, RetryHook, get_on_retry_hooks, set_on_retry_hooks

from emberq.retry.classify import ErrorKind, classify_db_error, classify_redis_error
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

__all__ = ["RetriedAttempt", "Retrying", "retry_db_operation", "retry_redis_operation"]

P = ParamSpec("P")
R = TypeVar("R")

log = get_logger(__name__)

#: Seconds after which no further attempt begins; a caller that waits longer is better told.
_TOTAL_SECONDS = 30.0
#: Seconds before the first retry, and the factor of each further one: 0.2, 0.6, 1.8, with the jitter about
#: four seconds in all, in which an engine has restarted.
_FIRST_WAIT_SECONDS = 0.2
_WAIT_FACTOR = 3.0
#: Longest wait, in seconds.
_MAX_WAIT_SECONDS = 5.0
#: Seconds of random wait on top, so that many clients of one engine do not come back at once.
_JITTER_SECONDS = 1.0


class _Operation(str):
    """The name of one of our operations, by which the hook tells it from others' retries."""

    __slots__ = ()


class RetriedAttempt:
    """One attempt of a block: `with attempt:`; an error in it may lead to the next one."""

    def __init__(self, attempt: stamina.Attempt, operation: str) -> None:
        """Wrap an attempt that stamina made."""
        self._attempt = attempt
        self._operation = operation

    @property
    def num(self) -> int:
        """1 for the first attempt."""
        return self._attempt.num

    def __enter__(self) -> Self:
        self._attempt.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if kind is None and self.num > 1:
            metrics.operation_retried(operation=self._operation, outcome="recovered")
        return self._attempt.__exit__(kind, error, traceback)


@dataclass(frozen=True, slots=True)
class Retrying:
    """How to retry: a decorator of sync and async functions, and an iterable of attempts of a block.

    Attributes:
        classify: Says what an error means.
        operation: The name in metrics and logs; the decorated function's where it is empty.
        idempotent: Whether to try again when it may have happened.
        max_retries: Attempts after the first one.
        total_seconds: Time after which no further attempt begins.
    """

    classify: Callable[[BaseException], ErrorKind]
    operation: str
    idempotent: bool
    max_retries: int
    total_seconds: float

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
        """Return the attempts: they go on until one succeeds; the last error is raised."""
        return _Attempts(self).__iter__()

    def __aiter__(self) -> AsyncIterator[RetriedAttempt]:
        """Return the attempts for `async for`: waiting does not block the loop."""
        return _Attempts(self).__aiter__()

    def worth_another(self, error: BaseException) -> bool:
        """Tell whether an error may lead to another attempt."""
        outcome = self.classify(error)
        return outcome is ErrorKind.NOTHING_HAPPENED or (outcome is ErrorKind.UNKNOWN and self.idempotent)


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
    """The attempts at one unit of work, with the count of how they end."""

    def __init__(self, retrying: Retrying) -> None:
        _install_hook()
        self._retrying = retrying
        self._name = retrying.operation or "block"
        self._began_at = time.monotonic()
        self._failures = 0
        # The name goes in without the arguments: hooks log what they are given.
        self._context: Any = stamina.retry_context(
            on=self._may_retry,
            attempts=retrying.max_retries + 1,
            timeout=None,
            wait_initial=_FIRST_WAIT_SECONDS,
            wait_max=_MAX_WAIT_SECONDS,
            wait_jitter=_JITTER_SECONDS,
            wait_exp_base=_WAIT_FACTOR,
        ).with_name(_Operation(self._name), (), {})

    def __iter__(self) -> Iterator[RetriedAttempt]:
        self._context = iter(self._context)
        return self

    def __next__(self) -> RetriedAttempt:
        try:
            return RetriedAttempt(next(self._context), self._name)
        except StopIteration:
            raise
        except Exception as exc:
            self._give_up(exc)
            raise

    def __aiter__(self) -> AsyncIterator[RetriedAttempt]:
        self._context = self._context.__aiter__()
        return self

    async def __anext__(self) -> RetriedAttempt:
        try:
            return RetriedAttempt(await self._context.__anext__(), self._name)
        except StopAsyncIteration:
            raise
        except Exception as exc:
            self._give_up(exc)
            raise

    def _may_retry(self, error: Exception) -> bool:
        wait = _FIRST_WAIT_SECONDS * _WAIT_FACTOR**self._failures + _JITTER_SECONDS
        self._failures += 1
        begins_at = time.monotonic() + min(wait, _MAX_WAIT_SECONDS)
        return (
            self._retrying.worth_another(error) and begins_at - self._began_at <= self._retrying.total_seconds
        )

    def _give_up(self, error: Exception) -> None:
        """Count an error that was transient and got no further attempt."""
        if self._retrying.classify(error) is ErrorKind.PERMANENT:
            return
        outcome = "exhausted" if self._retrying.worth_another(error) else "not_idempotent"
        metrics.operation_retried(operation=self._name, outcome=outcome)
        log.warning("retry_gave_up", operation=self._name, outcome=outcome, error=type(error).__name__)


def retry_db_operation(
    operation: str = "",
    *,
    idempotent: bool = False,
    max_retries: int = 3,
    total_seconds: float = _TOTAL_SECONDS,
) -> Retrying:
    """Run one transaction again when the database blinked.

    Tried again always: refused connections, serialization failures, deadlocks, read-only replicas, an
    engine that is starting. Tried again only if `idempotent`: a connection that broke, as the commit may
    have reached the server. Never: a wrong password, a missing database, any other error. Works with
    psycopg, SQLAlchemy and asyncpg. Waits 0.2 s, then three times as long each time, with jitter.

    Args:
        operation: Name in metrics and logs; the function's own where left out.
        idempotent: Whether doing it twice is the same as once.
        max_retries: Attempts after the first one.
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
    max_retries: int = 3,
    total_seconds: float = _TOTAL_SECONDS,
) -> Retrying:
    """Run one Redis command or MULTI again when Redis blinked; otherwise as `retry_db_operation`.

    Tried again always: refused connections, LOADING, READONLY, CLUSTERDOWN, MASTERDOWN, TRYAGAIN, too
    many clients, a primary that Sentinel does not know yet. Only if `idempotent`: a broken connection and
    a time-out, as the command may have been executed. Never: a refused login, any other error.

    Args:
        operation: Name in metrics and logs; the function's own where left out.
        idempotent: Whether doing it twice is the same as once.
        max_retries: Attempts after the first one.
        total_seconds: Time after which no further attempt begins; a running one is not cut short.
    """
    return Retrying(classify_redis_error, operation, idempotent, max_retries, total_seconds)


def _count_retry(details: RetryDetails) -> None:
    if not isinstance(details.name, _Operation):
        return
    metrics.operation_retried(operation=str(details.name), outcome="retried")
    log.warning(
        "retry_scheduled",
        operation=str(details.name),
        retry=details.retry_num,
        wait_seconds=round(details.wait_for, 2),
        error=type(details.caused_by).__name__,
    )


def _spare_ours(hook: RetryHook) -> RetryHook:
    """Keep a hook from our retries: the default ones log the error's text, with a statement's parameters."""

    def spared(details: RetryDetails) -> AbstractContextManager[None] | None:
        return None if isinstance(details.name, _Operation) else hook(details)

    return spared


def _install_hook() -> None:
    """Add our hook to the program's, again if it has set its own since."""
    hooks = get_on_retry_hooks()
    if _count_retry not in hooks:
        set_on_retry_hooks([*map(_spare_ours, hooks), _count_retry])
