"""The configuration of this process: its cache, and the snapshot that the current job is pinned to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from emberq.config.cache import Load, SnapshotCache
from emberq.config.snapshot import Snapshot

__all__ = ["configure_worker_config", "get_config_cache", "get_worker_config", "pinned_config"]


@dataclass(slots=True)
class _Pin:
    """The snapshot of one job, taken when the job first asks."""

    snapshot: Snapshot | None = None


_cache: SnapshotCache | None = None
_pin: ContextVar[_Pin | None] = ContextVar("emberq_config_pin", default=None)


def configure_worker_config(load: Load, *, reload: Load | None = None) -> SnapshotCache:
    """Tell this process, and those it will fork, where the configuration comes from.

    Args:
        load: Reads the settings as they were at a version, or as they are now.
        reload: The same without trying again, for when an older snapshot will do.
    """
    global _cache  # noqa: PLW0603 - one configuration per process is the point
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
    """Return the configuration: built once per version, shared by every job of the process.

    Within a job it is always the same snapshot, whatever changes meanwhile.

    Args:
        version: The version a job was claimed under; exactly that one is returned.

    Raises:
        RuntimeError: If `configure_worker_config` was not called in this process or before its fork.
        DatabaseUnavailable: If it must be read, and the database is away.
    """
    pin = _pin.get()
    if pin is None:
        return get_config_cache().get(version=version)
    if pin.snapshot is None or (version is not None and pin.snapshot.version != version):
        pin.snapshot = get_config_cache().get(version=version)
    return pin.snapshot


@contextlib.contextmanager
def pinned_config() -> Iterator[None]:
    """Give everything in the block, one job, the same snapshot; warm horses run every job in one."""
    token = _pin.set(_Pin())
    try:
        yield
    finally:
        _pin.reset(token)
