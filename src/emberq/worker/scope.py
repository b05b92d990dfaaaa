"""job_scope: everything a job opens is closed in `finally`, and what it leaked is counted."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, TypeVar

import structlog

from emberq.telemetry.logs import get_logger
from emberq.worker.processes import count_threads, open_descriptors

__all__ = ["JobScope", "count_pooled", "current_scope", "job_scope"]

T = TypeVar("T")

log = get_logger(__name__)

_current: ContextVar[JobScope | None] = ContextVar("emberq_job_scope", default=None)


_pooled: list[Callable[[], int]] = []


def count_pooled(counter: Callable[[], int]) -> Callable[[], int]:
    """Register how many connections a pool of the process holds: open on purpose, and no leak."""
    _pooled.append(counter)
    return counter


class JobScope:
    """What one job has open; closed in reverse order, each even if another fails.

    Invariant: after the scope ends, nothing registered with it is open.
    """

    def __init__(self) -> None:
        """Start with nothing open."""
        self._closers: list[tuple[str, Callable[[], Any]]] = []
        #: File descriptors and threads the job left behind, known after the scope has ended.
        self.leaked: dict[str, int] = {}
        #: What failed to close, as `name: error`.
        self.failures: list[str] = []

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context manager and leave it at the job's end."""
        value = manager.__enter__()
        self.callback(lambda: manager.__exit__(None, None, None), name=type(manager).__name__)
        return value

    def closing(self, thing: T) -> T:
        """Close a thing (`thing.close()`) at the job's end and return it."""
        self.callback(thing.close, name=type(thing).__name__)  # type: ignore[attr-defined]
        return thing

    def callback(self, function: Callable[[], Any], *, name: str | None = None) -> None:
        """Call a function at the job's end."""
        self._closers.append((name or str(getattr(function, "__name__", "callback")), function))

    def close(self) -> None:
        """Close everything, newest first; failures are logged and kept, never raised."""
        while self._closers:
            name, closer = self._closers.pop()
            try:
                closer()
            except Exception as exc:
                self.failures.append(f"{name}: {exc}")
                log.warning("scope_close_failed", what=name, error=type(exc).__name__, exc_info=True)


def current_scope() -> JobScope | None:
    """Return the scope of the job that runs here, nothing outside a job."""
    return _current.get()


@contextlib.contextmanager
def job_scope(**log_context: Any) -> Iterator[JobScope]:
    """Open a scope for one job; in a warm horse every job runs inside one.

    At the end, in `finally`: what was registered is closed, the environment, the working directory
    and the logging context are put back, and descriptors and threads that are left over are counted
    into `leaked` and logged.

    Args:
        log_context: Fields that every log record of the job carries.
    """
    scope = JobScope()
    token = _current.set(scope)
    environment = dict(os.environ)
    directory = _working_directory()
    before = _count_open()
    try:
        with structlog.contextvars.bound_contextvars(**log_context):
            try:
                yield scope
            finally:
                scope.close()
                _restore(environment, directory)
                _count_leaks(scope, before)
    finally:
        _current.reset(token)


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - no Path is wanted here
    except FileNotFoundError:
        return None


def _restore(environment: dict[str, str], directory: str | None) -> None:
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)
    if directory is not None and _working_directory() != directory:
        os.chdir(directory)


def _count_open() -> dict[str, int]:
    return {
        "descriptors": len(open_descriptors()) - sum(counter() for counter in _pooled),
        "threads": count_threads(),
        "children": len(multiprocessing.active_children()),
    }


def _count_leaks(scope: JobScope, before: dict[str, int]) -> None:
    after = _count_open()
    scope.leaked = {kind: after[kind] - before[kind] for kind in after if after[kind] > before[kind]}
    if scope.leaked:
        log.warning("job_leaked", **scope.leaked)
