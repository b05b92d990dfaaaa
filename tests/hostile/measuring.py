"""Reads hostile files as a worker does, and tells how each ended and what it cost."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from emberq.errors import EmberqError
from emberq.pipeline.budget import Budget
from emberq.pipeline.document import Document
from emberq.pipeline.sandbox.run import extract_sandboxed
from tests.hostile.kinds import HostileFile

__all__ = ["Outcome", "read_hostile"]


class Outcome(NamedTuple):
    """How the reading of a file ended.

    Attributes:
        error: The error, or nothing if there is a document.
        document: The document, or nothing.
        cpu_seconds: Processor time of all processes below this one.
        seconds: Wall-clock time.
        budget: What the file was allowed.
    """

    error: EmberqError | None
    document: Document | None
    cpu_seconds: float
    seconds: float
    budget: Budget

    @property
    def code(self) -> str:
        """The error's code, or `document`."""
        return self.error.code if self.error else "document"


def read_hostile(file: HostileFile) -> Outcome:
    """Read a file in the sandbox, with its budget.

    Any exception that is no error of emberq's passes through.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        path.write_bytes(file.make())
        budget = Budget.of(path)
        cpu, started = _seconds_below(), time.monotonic()
        error: EmberqError | None = None
        document: Document | None = None
        try:
            document = extract_sandboxed(
                path,
                name=file.name,
                timeout_seconds=budget.timeout_seconds,
                cpu_seconds=budget.cpu_seconds,
                memory_bytes=budget.memory_bytes,
                factor=budget.factor,
            )
        except EmberqError as exc:
            error = exc
        return Outcome(error, document, _seconds_below() - cpu, time.monotonic() - started, budget)


def _seconds_below() -> float:
    """Return the processor time of the processes below this one, the ended ones included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
        try:
            seconds += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return seconds
