"""How much memory a process has, and what keeps it small."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

from emberq.system.libc import LIBC

#: mallopt(3): the size from which a block is mapped on its own, and that size in bytes, glibc's own at first.
_M_MMAP_THRESHOLD = -3
_BIG_BLOCK_BYTES = 128 * 1024
#: Growth after which freed memory is returned.
_MUCH_GROWTH_BYTES = 32 << 20


def private_memory_bytes() -> int:
    """Return the memory that only this process has (USS); 0 where the system does not tell."""
    path = Path("/proc/self/smaps_rollup")
    with contextlib.suppress(OSError):
        return sum(
            int(line.split()[1]) * 1024
            for line in path.read_text().splitlines()
            if line.startswith(("Private_Clean:", "Private_Dirty:"))
        )
    return 0


def address_space_bytes() -> int:
    """Return the size of this process's address space, which RLIMIT_AS limits (Linux only)."""
    return _memory_bytes(0)


def anonymous_bytes() -> int:
    """Return how much memory in RAM a fork of this process begins with: all but mapped files (Linux only)."""
    return _memory_bytes(1) - _memory_bytes(2)


def return_big_blocks() -> None:
    """Return big blocks to the system whenever they are freed, in this process and its later forks.

    glibc raises its limit to the biggest block it has seen freed, 32 MB at most, and puts smaller blocks
    into the heap, from which a process returns little. A model that was loaded before the fork has raised the
    limit for every horse. Does nothing where the C library has no such limit.
    """
    with contextlib.suppress(AttributeError, OSError):
        LIBC.mallopt(_M_MMAP_THRESHOLD, _BIG_BLOCK_BYTES)


class FreedMemory:
    """What a process has freed: from time to time it is returned to the system.

    glibc keeps what the threads of a process have freed, each in an arena of its own: 150 listings of 8 MB at
    once left 700 MB behind. Does nothing where the C library has no `malloc_trim`, or the system no `/proc`.
    """

    def __init__(self) -> None:
        """Start with nothing freed."""
        self._least = 0

    def give_back(self) -> None:
        """Return it, if the process has grown since that was last done; takes up to 0.1 seconds."""
        with contextlib.suppress(AttributeError, OSError):
            size = anonymous_bytes()
            if size < self._least + _MUCH_GROWTH_BYTES:
                self._least = min(self._least, size)
                return
            LIBC.malloc_trim(0)
            self._least = anonymous_bytes()


def freeze_objects() -> None:
    """Exempt all present objects from garbage collection, in this process and its later forks.

    The collector writes to every object it looks at, so each fork would get a copy of all of them.
    """
    gc.freeze()
    # CPython starts a full collection when the new objects are a quarter of those that the last one left.
    # This one leaves none. Otherwise each horse would gather garbage of a quarter of the frozen objects, some
    # hundred thousand.
    gc.collect()


def _memory_bytes(field: int) -> int:
    """Return a field of `/proc/self/statm`, which counts in pages."""
    return int(Path("/proc/self/statm").read_bytes().split()[field]) * os.sysconf("SC_PAGE_SIZE")
