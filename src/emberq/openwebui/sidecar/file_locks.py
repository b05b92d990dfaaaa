"""Which of Open WebUI's files a process of emberq works on: at most one process at a time works on a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from emberq.embedded.datadir import private_mode
from emberq.system.file_lock import lock_byte, open_lock_file, unlock_byte

__all__ = ["FileLocks"]


class FileLocks:
    """Claims on the files of one server, among the processes that share a data directory.

    A claim is a lock on one byte of a lock file, at an offset that the file's id decides: it ends with the
    process, and leaves nothing behind. Threads of one process do not exclude each other.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock file; it and its directory are made."""
        path.parent.mkdir(mode=private_mode(), parents=True, exist_ok=True)
        self._descriptor = open_lock_file(path.with_suffix(".claims"))

    def __enter__(self) -> Self:
        """Use the claims for a block."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End all claims."""
        os.close(self._descriptor)

    @contextlib.contextmanager
    def take(self, file_id: str) -> Iterator[bool]:
        """Claim a file for a block; yields whether nobody else has it."""
        offset = int.from_bytes(hashlib.sha256(file_id.encode()).digest()[:7])
        if not lock_byte(self._descriptor, offset):
            yield False
            return
        try:
            yield True
        finally:
            unlock_byte(self._descriptor, offset)
