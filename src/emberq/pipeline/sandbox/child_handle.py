"""The sandbox's child process, seen from its parent: fork, wait, kill and reap."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain, starmap
from pathlib import Path
from typing import Final, NoReturn

from emberq.pipeline.sandbox.child import MAX_DETAIL
from emberq.retry.backoff import Backoff
from emberq.system.memory import resident_bytes

#: Arguments of one call. `starmap` makes the call in C and `extend` records its result there, so that no
#: signal handler can run in between.
_ONCE: Final = ((),)
#: Pauses between two checks whether a child that closed its pipe has ended.
_BACKOFF: Final = Backoff(first_seconds=0.0005, longest_seconds=0.05)


class ChildProcess:
    """A forked process, the pipe for its messages, and a file for its standard error.

    Invariant: everything opened or forked is recorded at once, and `end` closes and reaps all of it.

    Attributes:
        grown_bytes: Most resident memory of the child beyond that of this process (Linux only); known once
            the child has ended.
    """

    def __init__(self) -> None:
        self._pids: list[int] = []
        self._descriptors: list[int] = []
        self.grown_bytes = 0.0

    @property
    def pipe(self) -> int:
        """The descriptor to read the child's messages from."""
        return self._descriptors[1]

    def start(self, body: Callable[[int, int], NoReturn]) -> None:
        """Fork; the child runs `body` with the pipe's other end and the file for its standard error."""
        self._descriptors.extend(starmap(_scratch_file, _ONCE))
        self._descriptors.extend(chain.from_iterable(starmap(os.pipe, _ONCE)))
        self._pids.extend(starmap(os.fork, _ONCE))
        if not self._pids[0]:
            body(self._descriptors[2], self._descriptors[0])
        os.close(self._descriptors.pop())

    def wait(self, deadline: float) -> int | None:
        """Return how the child ended, as `Popen.returncode`; None if it runs at the deadline."""
        checks = 0
        while True:
            pid, status, usage = os.wait4(self._pids[0], os.WNOHANG)
            if pid:
                self._pids.clear()
                self.grown_bytes = usage.ru_maxrss * 1024 - _resident_bytes()
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                return None
            checks += 1
            time.sleep(_BACKOFF.pause_seconds(checks))

    def report(self) -> bytes:
        """Return the end of what the child wrote to its standard error."""
        size = os.fstat(self._descriptors[0]).st_size
        return os.pread(self._descriptors[0], MAX_DETAIL, max(0, size - MAX_DETAIL))

    def end(self) -> None:
        """Kill and reap the child, if it was forked, and close the descriptors."""
        # Filtered, because kill(2) with 0 would kill this whole process group.
        for pid in filter(None, self._pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for descriptor in self._descriptors:
            os.close(descriptor)


def _scratch_file() -> int:
    """Open a temporary file without a name."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("emberq-report")
    else:
        descriptor, path = tempfile.mkstemp()
        Path(path).unlink()
    return descriptor


def _resident_bytes() -> float:
    """Return the resident memory of this process; infinity where the child's memory is not limited."""
    return resident_bytes() if sys.platform == "linux" else math.inf
