"""The cache that a process reads its configuration from: loaded anew only when it is known to be old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from emberq.config.newest import NewestVersion
from emberq.config.snapshot import Snapshot, Unreadable
from emberq.errors import EmberqError, SettingInvalid
from emberq.telemetry.logs import get_logger

__all__ = ["Load", "SnapshotCache"]

log = get_logger(__name__)

#: Seconds before a version that could not be read is tried again.
_RETRY_SECONDS = 5.0

#: Reads the settings as they were at a version, or as they are now.
Load: TypeAlias = Callable[[int | None], Snapshot]


class SnapshotCache:
    """Keep one snapshot and load another only when it is known to be old.

    Invariants: `get` never returns a snapshot older than the newest version this process, or the one
    it was forked from, was told of, unless that version cannot be read; nor one that nobody confirmed
    for longer than its own `config_ttl`, unless the database is away.
    """

    def __init__(self, load: Load, *, reload: Load | None = None) -> None:
        """Take the functions that read the settings.

        Args:
            load: May try for a while; used when there is no snapshot that would do instead.
            reload: Tries once; the same as `load` if left out.
        """
        self._load = load
        self._reload = reload or load
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._loaded_at = 0.0
        self._epoch = 0
        self._is_stale = False
        self._failed_at: float | None = None
        self._refused: Snapshot | None = None
        #: What this process and those forked from it were told of.
        self.newest = NewestVersion()
        #: How often the configuration was built; one per version in a healthy process.
        self.builds = 0

    def get(self, *, version: int | None = None) -> Snapshot:
        """Return the snapshot.

        Args:
            version: The version a job was claimed under; exactly that one is returned.

        Raises:
            DatabaseUnavailable: If it must be read, and the database is away.
        """
        with self._lock:
            known = self._snapshot
            if known is None:
                return self._keep(self._load(version), epoch=self.newest.epoch)
            if version is not None:
                return known if known.version == version else self._replace(known, version)
            if self._is_trusted(known) or self._failed_lately():
                return known
            return self._refresh(known)

    @property
    def known(self) -> Snapshot | None:
        """The snapshot as it lies here, however old, without waiting; nothing before the first load."""
        return self._snapshot

    @property
    def applied_version(self) -> int:
        """The version that is really in use; 0 if there is none, or a stored value cannot be read."""
        known = self._snapshot
        return known.version if known is not None and not known.unreadable else 0

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """What of the newest version cannot be read here."""
        newest = self._refused or self._snapshot
        return newest.unreadable if newest is not None else ()

    def invalidate(self) -> None:
        """Make the next `get` load the settings anew."""
        with self._lock:
            self._is_stale, self._failed_at = True, None

    def _is_trusted(self, known: Snapshot) -> bool:
        # The time before the version: see NewestVersion.confirm.
        confirmed_at = max(self._loaded_at, self.newest.confirmed_at)
        if self._is_stale or self.newest.version > known.version or self.newest.epoch != self._epoch:
            return False
        return time.monotonic() - confirmed_at <= known.settings.config_ttl

    def _failed_lately(self) -> bool:
        return self._failed_at is not None and time.monotonic() - self._failed_at < _RETRY_SECONDS

    def _refresh(self, known: Snapshot) -> Snapshot:
        """Load the newest version; when the database is away the known one serves on."""
        epoch = self.newest.epoch
        try:
            loaded = self._reload(None)
        except EmberqError as exc:
            self._failed_at = time.monotonic()
            log.warning("config_kept", version=known.version, error_code=exc.code, error=exc.message)
            return known
        return self._take(known, loaded, epoch=epoch)

    def _replace(self, known: Snapshot, version: int) -> Snapshot:
        """Load the version a job is pinned to; an unreadable one is not tried again for every job."""
        if self._refused is not None and self._refused.version >= version and self._failed_lately():
            return known
        return self._take(known, self._load(version), epoch=self.newest.epoch)

    def _take(self, known: Snapshot, loaded: Snapshot, *, epoch: int) -> Snapshot:
        """Take a loaded snapshot, but keep the last good one if a value of the new one is unreadable."""
        if not loaded.unreadable or known.unreadable:
            return self._keep(loaded, epoch=epoch)
        if self._refused is None or self._refused.version != loaded.version:
            self._complain(loaded, kept=known.version)
        self._refused, self._failed_at = loaded, time.monotonic()
        return known

    def _keep(self, loaded: Snapshot, *, epoch: int) -> Snapshot:
        if loaded.unreadable:
            self._complain(loaded, kept=None)
        self._snapshot, self._loaded_at, self._epoch = loaded, time.monotonic(), epoch
        self._is_stale, self._failed_at, self._refused = False, None, None
        self.builds += 1
        return loaded

    @staticmethod
    def _complain(loaded: Snapshot, *, kept: int | None) -> None:
        for one in loaded.unreadable:
            log.error(
                "config_unreadable",
                error_code=SettingInvalid.code,
                version=loaded.version,
                kept_version=kept,
                setting=one.key,
                tenant=one.tenant,
                reason=one.reason,
            )
