"""Temporary directories that their owner keeps locked; a later process deletes those of dead owners."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from itertools import chain, islice
from pathlib import Path

from emberq.system.file_lock import lock_file, open_lock_file
from emberq.system.forks import close_in_children

#: What the names of all such directories begin with.
_PREFIXES = ("emberq-jobs-", "emberq-metrics-")
#: The file in a directory that its owner keeps locked.
_LOCK = ".lock"
#: Most directories that one process looks at, and seconds after which it leaves the rest to the next one.
_MAX_DIRECTORIES = 1000
_DELETE_SECONDS = 2.0


class OwnedDirectory:
    """A new directory for temporary files.

    Attributes:
        path: Its path.
    """

    def __init__(self, prefix: str) -> None:
        """Make one whose name begins with one of `_PREFIXES`, and delete those that dead processes left.

        Raises:
            OSError: If nothing can be written to the directory for temporary files.
        """
        base = Path(tempfile.gettempdir())
        _delete_abandoned(base)
        # Renamed only when it is locked, so that no other process ever sees it unlocked.
        new = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=base))
        self._lock = open_lock_file(new / _LOCK)
        lock_file(self._lock)
        self.path = new.rename(base / new.name.removeprefix("."))
        close_in_children(self)

    def remove(self) -> None:
        """Delete it with everything in it; does nothing in a forked child."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            self.close()

    def close(self) -> None:
        """Unlock it; in a forked child, close the copy of the lock, which would outlive the owner."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _delete_abandoned(base: Path) -> None:
    """Delete directories whose lock is free: their owner has ended."""
    deadline = time.monotonic() + _DELETE_SECONDS
    for found in islice(chain(*(base.glob(f"{prefix}*") for prefix in _PREFIXES)), _MAX_DIRECTORIES):
        if time.monotonic() > deadline:
            return
        with contextlib.suppress(OSError):
            if found.is_symlink() or found.stat().st_uid != os.getuid():
                continue
            lock = os.open(found / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if lock_file(lock):
                    shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(lock)
