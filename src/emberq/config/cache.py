"""The snapshot cache: a process reads the settings again only when its snapshot is known to be old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from emberq.config.newest_version import NewestVersion
from emberq.config.snapshot import Snapshot, Unreadable
from emberq.errors import EmberqError, SettingInvalid
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds before settings that could not be read are read again.
_RETRY_SECONDS = 5.0

#: Reads the settings at a version, or the newest ones.
Load: TypeAlias = Callable[[int | None], Snapshot]


class SnapshotCache:
    """One snapshot, replaced only when it is known to be old.

    Invariants: `get` returns no snapshot older than the newest version that this process, or the process
    it was forked from, was told of, unless that version cannot be read. It returns no snapshot that was
    last confirmed more than its own `config_ttl` ago, unless PostgreSQL is not available.
    """

    def __init__(
        self, load: Load, *, reload: Load | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the functions that read the settings.

        Args:
            load: May retry for a while; used where no older snapshot can serve instead.
            reload: Tries once, used where one can; by default `load`.
            clock: Returns the time in seconds; it never goes back.
        """
        self._load = load
        self._reload = reload or load
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._loaded_at = 0.0
        self._epoch = 0
        self._failed_at: float | None = None
        self._rejected: Snapshot | None = None
        #: The newest version that this process and those forked from it were told of.
        self.newest = NewestVersion(clock=clock)
        #: Snapshots stored so far; one per version in a healthy process.
        self.builds = 0

    def get(self, *, version: int | None = None) -> Snapshot:
        """Return the snapshot, reading the settings first if the stored one is known to be old.

        Args:
            version: The configuration version that a job was claimed with; exactly this one is returned.

        Raises:
            DatabaseUnavailable: If the settings must be read and PostgreSQL is not available.
        """
        with self._lock:
            stored = self._snapshot
            if stored is None:
                return self._store(self._load(version), epoch=self.newest.epoch)
            if version is not None:
                return stored if stored.version == version else self._load_version(stored, version)
            if self._is_trusted(stored) or self._failed_lately():
                return stored
            return self._load_newest(stored)

    @property
    def stored(self) -> Snapshot | None:
        """The stored snapshot, however old it is, without waiting; None before the first load."""
        return self._snapshot

    @property
    def applied_version(self) -> int:
        """The version in use; 0 if there is none or one of its values cannot be read."""
        stored = self._snapshot
        return stored.version if stored is not None and not stored.unreadable else 0

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The values of the newest version that cannot be read here."""
        newest = self._rejected or self._snapshot
        return newest.unreadable if newest is not None else ()

    def _is_trusted(self, stored: Snapshot) -> bool:
        # The time before the version: see NewestVersion.confirm.
        confirmed_at = max(self._loaded_at, self.newest.confirmed_at)
        if self.newest.version > stored.version or self.newest.epoch != self._epoch:
            return False
        return self._clock() - confirmed_at <= stored.settings.config_ttl

    def _failed_lately(self) -> bool:
        return self._failed_at is not None and self._clock() - self._failed_at < _RETRY_SECONDS

    def _load_newest(self, stored: Snapshot) -> Snapshot:
        """Return the newest snapshot, or the stored one while PostgreSQL is not available."""
        epoch = self.newest.epoch
        try:
            loaded = self._reload(None)
        except EmberqError as exc:
            self._failed_at = self._clock()
            log.warning("config_load_failed", version=stored.version, error_code=exc.code, error=exc.message)
            return stored
        return self._replace(stored, loaded, epoch=epoch)

    def _load_version(self, stored: Snapshot, version: int) -> Snapshot:
        """Return the snapshot of one version; an unreadable version is not loaded again for every job."""
        if self._rejected is not None and self._rejected.version >= version and self._failed_lately():
            return stored
        return self._replace(stored, self._load(version), epoch=self.newest.epoch)

    def _replace(self, stored: Snapshot, loaded: Snapshot, *, epoch: int) -> Snapshot:
        """Store a loaded snapshot, unless it has unreadable values and the stored one has none."""
        if not loaded.unreadable or stored.unreadable:
            return self._store(loaded, epoch=epoch)
        if self._rejected is None or self._rejected.version != loaded.version:
            self._log_unreadable(loaded, kept=stored.version)
        self._rejected, self._failed_at = loaded, self._clock()
        return stored

    def _store(self, loaded: Snapshot, *, epoch: int) -> Snapshot:
        if loaded.unreadable:
            self._log_unreadable(loaded, kept=None)
        self._snapshot, self._loaded_at, self._epoch = loaded, self._clock(), epoch
        self._failed_at, self._rejected = None, None
        self.builds += 1
        return loaded

    @staticmethod
    def _log_unreadable(loaded: Snapshot, *, kept: int | None) -> None:
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
