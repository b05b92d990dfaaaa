"""progress(): how a job says how far it has come, wherever it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["ProgressSink", "feed_progress", "progress", "progress_to", "waiting"]

#: Takes done, total and the stage's name.
ProgressSink = Callable[[int, int, str | None], None]

_sink: ContextVar[ProgressSink | None] = ContextVar("emberq_progress_sink", default=None)
#: Takes every report of the process as well; the warm horse's way to its worker's watchdog.
_feed: ProgressSink | None = None


def feed_progress(sink: ProgressSink) -> None:
    """Send every report of this process to `sink`, besides whoever listens to the single job."""
    global _feed  # noqa: PLW0603 - one watchdog per process is the point
    _feed = sink


def progress(done: int, total: int, *, stage: str | None = None) -> None:
    """Report progress of the running job; free of cost where nobody listens.

    Args:
        done: Units of work finished, in the stage's own unit (pages, chunks, rows).
        total: Units of work in all.
        stage: What the job is doing, e.g. `embedding`; the stage stays when left out.

    Raises:
        Cancelled: If the listener knows that the job was cancelled.
    """
    if _feed is not None:
        _feed(done, total, stage)
    sink = _sink.get()
    if sink is not None:
        sink(done, total, stage)


def waiting() -> None:
    """Tell the watchdog that the job waits for an engine that is away: it has not stalled."""
    if _feed is not None:
        _feed(0, 0, None)


@contextlib.contextmanager
def progress_to(sink: ProgressSink) -> Iterator[None]:
    """Send what the block reports to `sink`."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)
