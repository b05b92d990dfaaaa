"""job_scope: closes in `finally` what a job opened, puts back what it changed, counts what it leaked."""

from __future__ import annotations

import contextlib
import contextvars
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import structlog
from rq.timeouts import BaseTimeoutException

from emberq.system.open_files import OpenHandles, list_open_handles
from emberq.telemetry.logs import get_logger
from emberq.worker.job.leaks import clean_leaks
from emberq.worker.job.process_state import ProcessState
from emberq.worker.job.tempdirs import empty_directory, job_directory

__all__ = ["JobScope", "current_scope", "job_scope"]

T = TypeVar("T")

log = get_logger(__name__)

#: Closes one thing; takes what the job raised, if it did.
_Closer = Callable[[BaseException | None], Any]

_current: ContextVar[JobScope | None] = ContextVar("emberq_job_scope", default=None)
_lock = threading.Lock()
#: Scopes open in this process, nested ones included.
_open_scopes = 0


class JobScope:
    """What one job has open; closed in reverse order, each even if another fails.

    Invariant: after the scope ends, nothing registered with it is open.

    Attributes:
        outer: The scope around this one; nothing if it is the job's own.
        leaked: What the job left behind, counted by kind (`descriptors`, `connections`, `threads`,
            `native_threads`, `children`, `temporary_files`); known after the scope has ended. A nested
            scope leaves the counting to the outermost one.
        uncleaned: What of it is still there.
        failures: What failed to close, as `name: error`.
    """

    def __init__(self, outer: JobScope | None = None) -> None:
        """Start with nothing open."""
        self._closers: list[tuple[str, _Closer]] = []
        self.outer = outer
        self.leaked: dict[str, int] = {}
        self.uncleaned: dict[str, int] = {}
        self.failures: list[str] = []

    @property
    def ends_horse(self) -> bool:
        """Whether the process must not run another job: something is open that cannot be cleaned up."""
        return bool(self.uncleaned)

    @property
    def outermost(self) -> JobScope:
        """The scope of the whole job."""
        return self if self.outer is None else self.outer.outermost

    @property
    def depth(self) -> int:
        """How many scopes are around this one."""
        return 0 if self.outer is None else self.outer.depth + 1

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context manager and leave it at the job's end; it is told what the job raised."""
        value = manager.__enter__()
        self._closers.append((type(manager).__name__, lambda exc: manager.__exit__(*_triple(exc))))
        return value

    def closing(self, thing: T) -> T:
        """Close a thing (`thing.close()`) at the job's end and return it."""
        self.callback(thing.close, name=type(thing).__name__)  # type: ignore[attr-defined]
        return thing

    def callback(self, function: Callable[[], Any], *, name: str | None = None) -> None:
        """Call a function at the job's end."""
        self._closers.append((name or str(getattr(function, "__name__", "callback")), lambda _: function()))

    def close(self, raised: BaseException | None = None) -> None:
        """Close everything, newest first; failures are logged and kept, not raised.

        Args:
            raised: What the job raised; context managers are told, but cannot hide it.

        Raises:
            BaseException: A time-out or an exit that arrived meanwhile, after everything is closed.
        """
        interruption: BaseException | None = None
        while self._closers:
            name, closer = self._closers.pop()
            try:
                closer(raised)
            except BaseException as exc:
                self.failures.append(f"{name}: {exc}")
                log.warning("scope_close_failed", what=name, error=type(exc).__name__, exc_info=True)
                if not isinstance(exc, Exception) or isinstance(exc, BaseTimeoutException):
                    interruption = exc
        if interruption is not None:
            raise interruption


def current_scope() -> JobScope | None:
    """Return the scope of the job that runs here, nothing outside a job."""
    return _current.get()


@contextlib.contextmanager
def job_scope(**log_context: Any) -> Iterator[JobScope]:
    """Open a scope for one job; in a warm horse every job runs inside one.

    At the end, in `finally`: what was registered is closed; context variables, logging context,
    environment, working directory, umask, signal handlers and timers, root logger, `sys.path` and the
    like are put back; temporary files are deleted; what else was left open is counted into `leaked`
    and logged.

    A context variable that had no value before keeps the job's (Python cannot take it away); a warm job
    runs in a context of its own, where it ends with the job. What belongs to the whole process is only
    looked at while one job runs: scopes that overlap in threads or tasks close what is registered with
    them and leave the rest.

    Args:
        log_context: Fields that every log record of the job carries.
    """
    outer = _current.get()
    scope = JobScope(outer)
    fields, context = structlog.contextvars.get_contextvars(), contextvars.copy_context()
    with contextlib.ExitStack() as end:
        is_alone = _begin(scope)
        end.callback(_finish)
        token = _current.set(scope)
        end.callback(_restore_context, context)
        end.callback(_current.reset, token)
        end.callback(_restore_log_fields, fields)
        structlog.contextvars.bind_contextvars(**log_context)
        if is_alone:
            _watch_over_process(scope, end)
        end.push(lambda _type, exc, _traceback: scope.close(exc))
        yield scope


def _begin(scope: JobScope) -> bool:
    """Count the scope in and tell whether none is open but those around it."""
    global _open_scopes  # noqa: PLW0603 - counts what is open in the process
    with _lock:
        _open_scopes += 1
        return _open_scopes == scope.depth + 1


def _finish() -> None:
    global _open_scopes  # noqa: PLW0603 - the same
    with _lock:
        _open_scopes -= 1


def _watch_over_process(scope: JobScope, end: contextlib.ExitStack) -> None:
    """Have the process's state put back and its leaks counted when the scope ends."""

    def is_alone() -> bool:
        return _open_scopes == scope.depth + 1

    if scope.outer is None:
        before, temporary = list_open_handles(), job_directory()
        end.callback(lambda: _count_leaks(scope, before, temporary) if is_alone() else None)
        if temporary is not None:
            # Before the environment is remembered, so that in the usual job nothing in it differs.
            end.callback(_point_tempfile_at, tempfile.tempdir, os.environ.get("TMPDIR"))
            _point_tempfile_at(temporary, temporary)
    surroundings = ProcessState.capture()
    end.callback(lambda: _restore_process(surroundings) if is_alone() else None)


def _point_tempfile_at(directory: str | None, variable: str | None) -> None:
    tempfile.tempdir = directory
    if variable is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = variable


def _restore_process(surroundings: ProcessState) -> None:
    changed = surroundings.restore()
    if changed:
        log.debug("job_changes_undone", parts=changed)


def _count_leaks(scope: JobScope, before: OpenHandles, temporary: str | None) -> None:
    leaks = clean_leaks(before)
    if temporary is not None:
        files, left = empty_directory(temporary)
        leaks.note("temporary_files", len(files), [f"temporary file {name}" for name in files], left=left)
    scope.leaked, scope.uncleaned = leaks.counts, leaks.uncleaned
    if scope.leaked:
        log.warning("job_leaked", **scope.leaked, names=leaks.names, ends_horse=scope.ends_horse)


def _restore_log_fields(before: Mapping[str, Any]) -> None:
    if structlog.contextvars.get_contextvars() != before:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**before)


def _restore_context(before: contextvars.Context) -> None:
    for variable, value in contextvars.copy_context().items():
        if variable in before and before[variable] is not value:
            variable.set(before[variable])


def _triple(
    exc: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    return (None, None, None) if exc is None else (type(exc), exc, exc.__traceback__)
