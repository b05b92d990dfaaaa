"""Which of Open WebUI's files a process of emberq works on: at most one process at a time works on a file."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from emberq.embedded.datadir import private_mode

__all__ = ["FileLocks"]


class FileLocks:
    """Claims on the files of one server, among the processes that share a data directory.

    A claim is a lock on one byte of a lock file, at an offset that the file's id decides: it ends with the
    process, and leaves nothing behind. Threads of one process do not exclude each other.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock file; it and its directory are made."""
        path.parent.mkdir(mode=private_mode(), parents=True, exist_ok=True)
        self._descriptor = os.open(path.with_suffix(".claims"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

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
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
