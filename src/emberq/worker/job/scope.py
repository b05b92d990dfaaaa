"""job_scope: closes what a job registered, restores the state that it changed, counts what it leaked."""

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

from emberq.system.open_handles import OpenHandles, list_open_handles
from emberq.telemetry.logs import get_logger
from emberq.worker.job.leaks import clean_leaks
from emberq.worker.job.process_state import ProcessState
from emberq.worker.job.tempdirs import empty_directory, job_directory

T = TypeVar("T")

log = get_logger(__name__)

#: Closes one object; takes the error that the job raised, if any.
_Closer = Callable[[BaseException | None], Any]

_current: ContextVar[JobScope | None] = ContextVar("emberq_job_scope", default=None)
_lock = threading.Lock()
#: Scopes open in this process, nested ones included.
_open_scopes = 0


class JobScope:
    """The objects that one job registers to be closed at its end, newest first.

    Invariant: after the scope ends, nothing registered with it is open.

    Attributes:
        outer: The scope around this one; None for the job's own.
        leaked: How many things the job left behind, by kind (`descriptors`, `connections`, `threads`,
            `native_threads`, `children`, `temporary_files`). Set when the outermost scope ends; a nested
            scope has none.
        uncleaned: How many of them could not be cleaned up, by kind.
        failures: The errors of closing, as `name: error`.
    """

    def __init__(self, outer: JobScope | None = None) -> None:
        self._closers: list[tuple[str, _Closer]] = []
        self.outer = outer
        self.leaked: dict[str, int] = {}
        self.uncleaned: dict[str, int] = {}
        self.failures: list[str] = []

    @property
    def ends_horse(self) -> bool:
        """Whether the process must not run another job, because a leak could not be cleaned up."""
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
        """Enter a context manager and leave it at the job's end, with the error that the job raised."""
        value = manager.__enter__()
        self._closers.append((type(manager).__name__, lambda exc: manager.__exit__(*_triple(exc))))
        return value

    def closing(self, thing: T) -> T:
        """Return an object whose `close()` is called at the job's end."""
        self.callback(thing.close, name=type(thing).__name__)  # type: ignore[attr-defined]
        return thing

    def callback(self, function: Callable[[], Any], *, name: str | None = None) -> None:
        """Call a function at the job's end."""
        self._closers.append((name or str(getattr(function, "__name__", "callback")), lambda _: function()))

    def close(self, raised: BaseException | None = None) -> None:
        """Close everything, newest first; errors are logged and added to `failures`.

        Args:
            raised: The error that the job raised; context managers receive it but cannot suppress it.

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
                log.warning("job_close_failed", name=name, error=type(exc).__name__, exc_info=True)
                if not isinstance(exc, Exception) or isinstance(exc, BaseTimeoutException):
                    interruption = exc
        if interruption is not None:
            raise interruption


def current_scope() -> JobScope | None:
    """Return the innermost scope of the job that runs here, None outside a job."""
    return _current.get()


@contextlib.contextmanager
def job_scope(**log_context: Any) -> Iterator[JobScope]:
    """Open a scope for one job; a warm horse runs every job inside one.

    At the end of the block, also after an error: registered objects are closed; context variables, logging
    context, environment, working directory, umask, signal handlers and timers, root logger, `sys.path` and
    similar state are restored; temporary files are deleted; anything else that the job left open is counted
    into `leaked` and logged.

    A context variable that had no value before keeps the job's, because Python cannot unset it. A warm job
    runs in a context of its own, which ends with the job. State of the whole process is restored, and leaks
    are counted, only where one job runs at a time: scopes that overlap in threads or tasks only close what
    is registered with them.

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
            _restore_process_at_end(scope, end)
        end.push(lambda _type, exc, _traceback: scope.close(exc))
        yield scope


def _begin(scope: JobScope) -> bool:
    """Count the scope in; returns whether all other open scopes are around it."""
    global _open_scopes  # noqa: PLW0603 - one count per process
    with _lock:
        _open_scopes += 1
        return _open_scopes == scope.depth + 1


def _finish() -> None:
    global _open_scopes  # noqa: PLW0603 - the same
    with _lock:
        _open_scopes -= 1


def _restore_process_at_end(scope: JobScope, end: contextlib.ExitStack) -> None:
    """Restore the process's state and count leaks when the scope ends."""

    def is_alone() -> bool:
        return _open_scopes == scope.depth + 1

    if scope.outer is None:
        temporary, before = job_directory(), list_open_handles()
        end.callback(lambda: _count_leaks(scope, before, temporary) if is_alone() else None)
        if temporary is not None:
            # Before the environment is captured, so that a usual job leaves nothing to restore.
            end.callback(_point_tempfile_at, tempfile.tempdir, os.environ.get("TMPDIR"))
            _point_tempfile_at(temporary, temporary)
    state = ProcessState.capture()
    end.callback(lambda: _restore_state(state) if is_alone() else None)


def _point_tempfile_at(directory: str | None, variable: str | None) -> None:
    tempfile.tempdir = directory
    if variable is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = variable


def _restore_state(state: ProcessState) -> None:
    changed = state.restore()
    if changed:
        log.debug("state_restored", parts=changed)


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
