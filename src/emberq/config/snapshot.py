"""Versioned, immutable configuration snapshots and the cache that workers read them from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from emberq.config.runtime import RuntimeSettings

__all__ = ["Snapshot", "SnapshotCache", "configure_worker_config", "get_worker_config"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All settings as they were at one version.

    Attributes:
        version: Grows by one with every change; 0 before the first.
        settings: The settings that hold for everybody.
        overrides: Values that single tenants changed, by tenant.
    """

    version: int
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    def for_tenant(self, tenant: str) -> RuntimeSettings:
        """Return the settings in force for a tenant."""
        own = self.overrides.get(tenant)
        return self.settings.model_copy(update=dict(own)) if own else self.settings


class SnapshotCache:
    """Keep one snapshot and load it anew only when it is known to be old.

    Invariant: `get` never returns a snapshot older than the newest version the cache was told of,
    nor one loaded longer ago than its own `config_ttl`.
    """

    def __init__(self, load: Callable[[], Snapshot]) -> None:
        """Take the function that reads the settings as they are now."""
        self._load = load
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._loaded_at = 0.0
        #: How often the configuration was built; one per version in a healthy worker.
        self.builds = 0

    def get(self, *, version: int | None = None) -> Snapshot:
        """Return the snapshot, at least as new as `version` if that is given."""
        with self._lock:
            known = self._snapshot
            if known is not None and not self._is_old(known, version):
                return known
            self._snapshot = self._load()
            self._loaded_at = time.monotonic()
            self.builds += 1
            return self._snapshot

    def invalidate(self) -> None:
        """Make the next `get` load the settings anew."""
        with self._lock:
            self._snapshot = None

    def _is_old(self, known: Snapshot, version: int | None) -> bool:
        if version is not None and known.version < version:
            return True
        return time.monotonic() - self._loaded_at > known.settings.config_ttl


_worker_config: SnapshotCache | None = None


def configure_worker_config(load: Callable[[], Snapshot]) -> SnapshotCache:
    """Tell this process where its configuration comes from; called once, before the fork."""
    global _worker_config  # noqa: PLW0603 - one configuration per process is the point
    _worker_config = SnapshotCache(load)
    return _worker_config


def get_worker_config(*, version: int | None = None) -> Snapshot:
    """Return the worker's configuration: built once, shared by every job of the process.

    Args:
        version: The version a job was claimed under; an older cached snapshot is loaded anew.

    Raises:
        RuntimeError: If `configure_worker_config` was not called in this process or before its fork.
    """
    if _worker_config is None:
        msg = "The worker configuration has no source: call configure_worker_config() first."
        raise RuntimeError(msg)
    return _worker_config.get(version=version)
