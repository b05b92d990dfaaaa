"""The newest configuration version a host knows of, in memory that forked processes share."""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable

__all__ = ["NewestVersion"]


class _Board(ctypes.Structure):
    """What is written on it; aligned words, so each is read and written in one piece."""

    _fields_ = (
        ("version", ctypes.c_uint64),
        ("epoch", ctypes.c_uint64),
        ("confirmed_at", ctypes.c_double),
    )


class NewestVersion:
    """A board that a listening process writes on, and that every process forked from its maker reads.

    A horse is forked and single-threaded, so it cannot listen; it looks at the board whenever it reads
    its configuration, without a thread or a system call, and hears of a change when its host does.

    Invariants: `version` falls only together with a new `epoch`; at `confirmed_at` no newer version
    existed than `version`.
    """

    def __init__(self) -> None:
        """Make a board; processes forked from now on share it."""
        self._memory = mmap.mmap(-1, ctypes.sizeof(_Board))
        self._board = _Board.from_buffer(self._memory)

    @property
    def version(self) -> int:
        """The newest version anybody on this host was told of; 0 before the first."""
        return int(self._board.version)

    @property
    def epoch(self) -> int:
        """How often the database was found to have gone back, e.g. to a backup."""
        return int(self._board.epoch)

    @property
    def confirmed_at(self) -> float:
        """When the version was last compared with the database (`time.monotonic()`); 0.0 if never."""
        return float(self._board.confirmed_at)

    def announce(self, version: int) -> None:
        """Write down that a version exists."""
        if version > self.version:
            self._board.version = version

    def confirm(self, read: Callable[[], int]) -> None:
        """Compare with the database.

        Args:
            read: Asks the database for its newest version.
        """
        seen, asked_at = self.version, time.monotonic()
        version = read()
        if version < seen:
            # What was known before the question is gone, so its number may come again with other values.
            self._board.version = version
            self._board.epoch += 1
        else:
            self.announce(version)
        # After the version: who reads the time first and the version then never trusts an older one.
        self._board.confirmed_at = asked_at
