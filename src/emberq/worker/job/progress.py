"""progress(): a job reports how far it has come, in any process that runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

#: A listener; takes done, total and the stage's name.
ProgressSink = Callable[[int, int, str | None], None]

_sink: ContextVar[ProgressSink | None] = ContextVar("emberq_progress_sink", default=None)
#: The process's own listener: a warm horse sends every report to its worker's watchdog.
_process_sink: ProgressSink | None = None


def report_all_progress_to(sink: ProgressSink) -> None:
    """Send every report of this process to `sink`, in addition to the listener of the single job."""
    global _process_sink  # noqa: PLW0603 - one watchdog per process
    _process_sink = sink


def progress(done: int, total: int, *, stage: str | None = None) -> None:
    """Report progress of the running job; does nothing without a listener.

    Args:
        done: Units of work finished, in the stage's own unit (pages, chunks, rows).
        total: All units of work of the stage.
        stage: What the job is doing, e.g. `embedding`; the stage stays when left out.

    Raises:
        Cancelled: If the listener knows that the job was cancelled.
    """
    if _process_sink is not None:
        _process_sink(done, total, stage)
    sink = _sink.get()
    if sink is not None:
        sink(done, total, stage)


def report_waiting() -> None:
    """Tell the watchdog that the job has not stalled: it waits for PostgreSQL or Redis."""
    if _process_sink is not None:
        _process_sink(0, 0, None)


@contextlib.contextmanager
def progress_to(sink: ProgressSink) -> Iterator[None]:
    """Send the progress that the block reports to `sink`."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)
