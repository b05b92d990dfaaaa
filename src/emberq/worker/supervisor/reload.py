"""Watching source files, for development: a saved file causes a reload."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds between two scans of the files.
_SCAN_SECONDS = 0.5
#: Directories without source files of the project.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


class SourceWatcher:
    """Tells when a Python file below a directory was changed, added or removed."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._scanned_at = clock()
        self._seen = self._scan()

    def has_changed(self) -> bool:
        """Tell whether something changed since the last time; scans twice a second at most."""
        if self._clock() - self._scanned_at < _SCAN_SECONDS:
            return False
        self._scanned_at = self._clock()
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
