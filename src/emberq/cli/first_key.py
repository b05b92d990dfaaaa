"""The file with the first API key, in the data directory: `up` writes it, the command line reads it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from emberq.system.files import replace_durably

#: Name of the file; only its owner may read it.
_NAME = "first-api-key"


def first_key_path(data_dir: Path) -> Path:
    """Return the file's path."""
    return data_dir / _NAME


def write_first_key(data_dir: Path, key: str) -> Path:
    """Write the file and return its path.

    Raises:
        OSError: If it cannot be written.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = first_key_path(data_dir)
    replace_durably(path, f"{key}\n", mode=0o600)
    return path


def read_first_key(data_dir: Path) -> str:
    """Return the first API key; an empty text if this user cannot read it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        descriptor = os.open(first_key_path(data_dir), os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, encoding="ascii") as file:
            return file.read().strip()
    return ""
