"""Locks on files, among processes; the kernel releases them when the process ends."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds between two tries while another process has the lock.
_POLL_SECONDS = 0.01


def open_lock_file(path: Path, *, mode: int = 0o600) -> int:
    """Open a file that is only there to be locked; it is made if it is missing.

    Args:
        path: The file; a symbolic link is refused.
        mode: Its mode if it is made.

    Returns:
        The descriptor; closing it releases the lock.

    Raises:
        OSError: If the file cannot be opened for writing.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)


def lock_file(descriptor: int, *, shared: bool = False, wait_seconds: float = 0.0) -> bool:
    """Lock an open file (flock(2)).

    The lock belongs to the open file, which forked children share: it ends when the last copy of the
    descriptor is closed.

    Args:
        descriptor: The open file; on NFS it must be open for writing for an exclusive lock.
        shared: Whether others may have a shared lock at the same time.
        wait_seconds: How long to wait while another process has the lock; `math.inf` for as long as it takes.

    Returns:
        Whether the file is locked now; False if another process had the lock all the time.

    Raises:
        OSError: If the file system knows no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if wait_seconds == math.inf:
        fcntl.flock(descriptor, kind)
        return True
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


@contextlib.contextmanager
def locked_file(
    path: Path, *, shared: bool = False, wait_seconds: float = math.inf, mode: int = 0o600
) -> Iterator[bool]:
    """Lock a lock file for a block; yields whether it is locked.

    The arguments are those of `open_lock_file` and `lock_file`.

    Raises:
        OSError: If the file cannot be opened or the file system knows no locks.
    """
    descriptor = open_lock_file(path, mode=mode)
    try:
        yield lock_file(descriptor, shared=shared, wait_seconds=wait_seconds)
    finally:
        os.close(descriptor)


def lock_byte(descriptor: int, offset: int) -> bool:
    """Lock one byte of an open file (fcntl(2)); it need not exist.

    Unlike `lock_file` this excludes other processes only, not other threads of this one. The lock ends when
    the process closes any descriptor of the file.

    Returns:
        Whether it is locked now; False if another process has it.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except BlockingIOError:
        return False
    return True


def unlock_byte(descriptor: int, offset: int) -> None:
    """Unlock a byte that `lock_byte` locked."""
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
