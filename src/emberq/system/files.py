"""Writes to disk that a crash or a power failure cannot undo."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make new, renamed and deleted names in a directory durable: to fsync(2) they are its data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a file whole: after a crash it has the old text or the new one, after the return the new one.

    A draft lies beside it meanwhile, with the suffix `.draft`. The file gets the mode, less the umask.

    Raises:
        OSError: If it cannot be written; the old text then stays.
    """
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)
