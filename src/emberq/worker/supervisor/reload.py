"""Watching source files, for development: a saved file makes a new generation."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["SourceWatcher"]

#: Seconds between two looks at the files.
_LOOK_SECONDS = 0.5
#: Directories nobody edits code in.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


class SourceWatcher:
    """Tells when a Python file below a directory was changed, added or removed."""

    def __init__(self, directory: Path) -> None:
        """Take note of the files as they are now."""
        self._directory = directory
        self._looked_at = time.monotonic()
        self._seen = self._scan()

    def has_changed(self) -> bool:
        """Tell whether something changed since the last time; looks twice a second at most."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        now = self._scan()
        changed, self._seen = now != self._seen, now
        return changed

    def _scan(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        pending = [str(self._directory)]
        while pending:
            try:
                entries = list(os.scandir(pending.pop()))
            except OSError:
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _SKIPPED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.name.endswith(".py"):
                    status = entry.stat()
                    found[entry.path] = (status.st_mtime_ns, status.st_size)
        return found
