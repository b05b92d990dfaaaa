"""Locks among processes that share a data directory: one for a whole program, and one for each file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from emberq.embedded.datadir import private_mode
from emberq.errors import InvalidRequest
from emberq.system.file_lock import lock_byte, lock_file, open_lock_file, unlock_byte


class FileLocks:
    """Locks on single files of one Open WebUI, so that at most one process works on a file.

    Each lock is a lock on one byte of a lock file (fcntl(2)), at an offset computed from the file's id. The
    kernel releases it when the process ends. Threads of one process do not exclude each other.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock file; create it and its directory if necessary."""
        path.parent.mkdir(mode=private_mode(), parents=True, exist_ok=True)
        self._descriptor = open_lock_file(path.with_suffix(".locks"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def try_lock(self, file_id: str) -> Iterator[bool]:
        """Lock a file for the length of a block; yield False if another process has locked it."""
        offset = int.from_bytes(hashlib.sha256(file_id.encode()).digest()[:7])
        if not lock_byte(self._descriptor, offset):
            yield False
            return
        try:
            yield True
        finally:
            unlock_byte(self._descriptor, offset)


@contextlib.contextmanager
def program_lock(path: Path, program: str) -> Iterator[None]:
    """Allow one process at a time to run a program against one server, for the length of a block.

    Args:
        path: The program's state path; its directory is created if necessary.
        program: Name of the program for messages, e.g. `watcher`.

    Raises:
        InvalidRequest: If another process runs the program, or the directory cannot be written to.
    """
    try:
        path.parent.mkdir(mode=private_mode(), parents=True, exist_ok=True)
        lock = open_lock_file(path.with_suffix(".lock"))
    except OSError as exc:
        raise InvalidRequest(
            f"{path.parent} cannot be written to: {exc.strerror}.",
            hint="Set EMBERQ_DATA_DIR to a directory that can be written to.",
        ) from exc
    try:
        if not lock_file(lock):
            raise InvalidRequest(
                f"Another {program} runs against this Open WebUI.",
                hint="Wait until it ends, or stop it first.",
            )
        yield
    finally:
        os.close(lock)
