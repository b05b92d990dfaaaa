"""The newest configuration version that this host knows, in memory that forked processes share."""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable


class _SharedMemory(ctypes.Structure):
    """The shared fields; each is an aligned word, so it is read and written at once."""

    _fields_ = (
        ("version", ctypes.c_uint64),
        ("epoch", ctypes.c_uint64),
        ("confirmed_at", ctypes.c_double),
    )


class NewestVersion:
    """The newest version, written by one process that listens, read by all processes forked from its maker.

    A horse has one thread, which runs the job, so it cannot listen. It reads these fields whenever it reads
    its configuration, without a system call, and knows of a change as soon as its host does.

    Invariants: `version` falls only together with a new `epoch`; at `confirmed_at` the database had no
    version newer than `version`.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Map the memory; processes forked from now on share it."""
        self._fields = _SharedMemory.from_buffer(mmap.mmap(-1, ctypes.sizeof(_SharedMemory)))
        self._clock = clock

    @property
    def version(self) -> int:
        """The newest version known on this host; 0 before the first."""
        return int(self._fields.version)

    @property
    def epoch(self) -> int:
        """How often the database's version has gone back, for example after the restore of a backup."""
        return int(self._fields.epoch)

    @property
    def confirmed_at(self) -> float:
        """The clock's time of the last comparison with the database; 0.0 before the first."""
        return float(self._fields.confirmed_at)

    def announce(self, version: int) -> None:
        """Note that a version exists."""
        if version > self.version:
            self._fields.version = version

    def confirm(self, read: Callable[[], int]) -> None:
        """Compare with the database, whose newest version `read` returns."""
        seen, asked_at = self.version, self._clock()
        version = read()
        if version < seen:
            # The versions in between are lost; their numbers may come again with other values.
            self._fields.version = version
            self._fields.epoch += 1
        else:
            self.announce(version)
        # Written last: readers load the time first, so they never trust an older version.
        self._fields.confirmed_at = asked_at
