"""progress(): how a job says how far it has come, wherever it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["ProgressSink", "progress", "progress_to"]

#: Takes done, total and the stage's name.
ProgressSink = Callable[[int, int, str | None], None]

_sink: ContextVar[ProgressSink | None] = ContextVar("emberq_progress_sink", default=None)


def progress(done: int, total: int, *, stage: str | None = None) -> None:
    """Report progress of the running job; free of cost where nobody listens.

    Args:
        done: Units of work finished, in the stage's own unit (pages, chunks, rows).
        total: Units of work in all.
        stage: What the job is doing, e.g. `embedding`; the stage stays when left out.

    Raises:
        Cancelled: If the listener knows that the job was cancelled.
    """
    sink = _sink.get()
    if sink is not None:
        sink(done, total, stage)


@contextlib.contextmanager
def progress_to(sink: ProgressSink) -> Iterator[None]:
    """Send what the block reports to `sink`."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)
