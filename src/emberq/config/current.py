"""The configuration of this process: its cache, and the snapshot that the running job is pinned to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from emberq.config.cache import Load, SnapshotCache
from emberq.config.snapshot import Snapshot


@dataclass(slots=True)
class _Pin:
    """The snapshot of one job, set at the job's first call of `get_worker_config`."""

    snapshot: Snapshot | None = None


_cache: SnapshotCache | None = None
_pin: ContextVar[_Pin | None] = ContextVar("emberq_config_pin", default=None)


def configure_worker_config(load: Load, *, reload: Load | None = None) -> SnapshotCache:
    """Set the source of the configuration for this process and the processes it forks.

    Args:
        load: Reads the settings at a version, or the newest ones.
        reload: The same without retries; used where an older snapshot can serve instead.
    """
    global _cache  # noqa: PLW0603 - one configuration per process
    _cache = SnapshotCache(load, reload=reload)
    return _cache


def get_config_cache() -> SnapshotCache:
    """Return the process's configuration cache.

    Raises:
        RuntimeError: If `configure_worker_config` was not called in this process or before its fork.
    """
    if _cache is None:
        msg = "The worker configuration has no source: call configure_worker_config() first."
        raise RuntimeError(msg)
    return _cache


def get_worker_config(*, version: int | None = None) -> Snapshot:
    """Return the configuration snapshot, built once per version and shared by all jobs of the process.

    Within a job every call returns the same snapshot, even if settings change meanwhile.

    Args:
        version: The configuration version that the job was claimed with; exactly this one is returned.

    Raises:
        RuntimeError: If `configure_worker_config` was not called in this process or before its fork.
        DatabaseUnavailable: If the settings must be read and PostgreSQL is not available.
    """
    pin = _pin.get()
    if pin is None:
        return get_config_cache().get(version=version)
    if pin.snapshot is None or (version is not None and pin.snapshot.version != version):
        pin.snapshot = get_config_cache().get(version=version)
    return pin.snapshot


@contextlib.contextmanager
def pinned_config() -> Iterator[None]:
    """Pin the configuration within the block, so that all calls in it get the same snapshot.

    A warm horse runs every job in such a block.
    """
    token = _pin.set(_Pin())
    try:
        yield
    finally:
        _pin.reset(token)
