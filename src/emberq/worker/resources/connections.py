"""Connections: clients that every horse opens for itself after the fork and checks before use."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast, overload

from emberq.system.kept_open import adopting, keep_objects_open
from emberq.telemetry.logs import get_logger
from emberq.worker.job.scope import JobScope, current_scope
from emberq.worker.resources.loading import make_value

T = TypeVar("T")

log = get_logger(__name__)

#: Methods that close a client; the first that its class has is called. SQLAlchemy's engines have the first
#: one, redis-py's pools the second.
_CLOSERS = ("dispose", "disconnect", "close")

_opened: list[Connection[Any]] = []
#: Values that a parent process opened. They are never used and never freed: freeing a client may send a
#: farewell over a socket that the parent still uses.
_inherited: list[object] = []


class Connection(Generic[T]):
    """A function whose value each process opens for itself on first use.

    Invariant: a call returns a value that the calling process opened and that, within a job, passed its
    check at the job's first call.

    Attributes:
        name: The function's name.
        value: What it returned or yielded; None while it is closed.
        opened_by: The process that opened it; None while it is closed.
    """

    def __init__(
        self,
        function: Callable[[], T | Iterator[T]],
        *,
        check: Callable[[T], object] | None = None,
        close: Callable[[T], object] | None = None,
    ) -> None:
        self._function = function
        self._check = check
        self._close = close
        self._generator: Iterator[T] | None = None
        self.value: T | None = None
        self.opened_by: int | None = None
        self._checked_in: JobScope | None = None
        self._lock = threading.RLock()
        self.name = function.__name__
        functools.update_wrapper(self, function, updated=())

    def __call__(self) -> T:
        """Return this process's value; it is opened at the first call, and again if it fails its check.

        The check is made at the first call of each job; outside a job, at every call.
        """
        if self.opened_by != os.getpid():
            self._forget_inherited()
        scope = current_scope()
        job = scope.outermost if scope is not None else None
        with self._lock:
            if self.opened_by is None:
                self._open()
            elif (job is None or job is not self._checked_in) and not self._passes_check():
                self.close()
                self._open()
            self._checked_in = job
            return cast("T", self.value)

    def _forget_inherited(self) -> None:
        if self.opened_by is not None:
            _inherited.extend((self.value, self._generator))
            _opened.remove(self)
        # A thread of the parent may have had the lock when the parent forked.
        self._lock = threading.RLock()
        self.value, self._generator, self.opened_by, self._checked_in = None, None, None, None

    def _open(self) -> None:
        with adopting():
            self.value, self._generator = make_value(self._function)
        self.opened_by = os.getpid()
        _opened.append(self)

    def _passes_check(self) -> bool:
        value = cast("T", self.value)
        check = self._check or getattr(type(value), "ping", None)
        if not callable(check):
            return True
        try:
            return check(value) is not False
        except Exception as exc:  # noqa: BLE001 - any error of a check means a broken connection
            log.warning("connection_reopened", connection=self.name, error=type(exc).__name__)
            return False

    def close(self) -> None:
        """Close this process's value, if it has one; an error is logged, and the value is dropped."""
        if self.opened_by != os.getpid():
            return
        value, generator = cast("T", self.value), self._generator
        self.value, self._generator, self.opened_by, self._checked_in = None, None, None, None
        _opened.remove(self)
        try:
            if generator is not None:
                next(generator, None)
            elif self._close is not None:
                self._close(value)
            else:
                _close_by_its_class(value)
        except Exception as exc:  # noqa: BLE001 - a value that cannot be closed is dropped
            log.warning("connection_close_failed", connection=self.name, error=type(exc).__name__)


@overload
def connection(function: Callable[[], Iterator[T]]) -> Connection[T]: ...
@overload
def connection(function: Callable[[], T]) -> Connection[T]: ...
@overload
def connection(
    *, check: Callable[[T], object] | None = None, close: Callable[[T], object] | None = None
) -> Callable[[Callable[[], T]], Connection[T]]: ...


def connection(
    function: Any = None,
    *,
    check: Callable[[Any], object] | None = None,
    close: Callable[[Any], object] | None = None,
) -> Any:
    """Declare an engine, pool or client that every horse opens for itself after the fork.

    It is opened at the first call in a process and closed when the horse ends, newest first. What it keeps
    open between jobs does not count as a leak. A generator function may yield the value and close it after
    the yield.

    Args:
        function: Opens the value; may use resources and other connections.
        check: Called with the value at its first use in each job; if it raises or returns False, the
            value is closed and opened again. By default the value's own `ping()`, if its class has one
            (redis-py). SQLAlchemy engines check themselves with `pool_pre_ping=True`; HTTP clients
            reconnect by themselves.
        close: Closes the value; by default its own `dispose()`, `disconnect()` or `close()`.

    Example:
        >>> @connection
        ... def database():
        ...     return create_engine(URL, pool_pre_ping=True)
    """

    def register(opener: Callable[[], Any]) -> Connection[Any]:
        made: Connection[Any] = Connection(opener, check=check, close=close)
        return made

    return register if function is None else register(function)


def close_connections() -> None:
    """Close the connections that this process has opened, newest first."""
    for one in reversed(list(_opened)):
        one.close()


@keep_objects_open
def _values() -> list[object]:
    return [one.value for one in _opened if one.opened_by == os.getpid()]


def _close_by_its_class(value: object) -> None:
    for name in _CLOSERS:
        closer = getattr(type(value), name, None)
        if callable(closer):
            closer(value)
            return
