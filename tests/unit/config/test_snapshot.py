from __future__ import annotations

import time

import pytest

from emberq.config import snapshot as snapshots
from emberq.config.runtime import RuntimeSettings
from emberq.config.snapshot import Snapshot, SnapshotCache, configure_worker_config, get_worker_config


class Source:
    """A settings table that counts how often it is read."""

    def __init__(self) -> None:
        self.version = 1
        self.settings = RuntimeSettings()
        self.reads = 0

    def load(self) -> Snapshot:
        self.reads += 1
        return Snapshot(self.version, self.settings, {"acme": {"rag_chunk_size": 64}})


def test_fifty_jobs_build_the_configuration_once() -> None:
    source = Source()
    cache = configure_worker_config(source.load)
    assert len({id(get_worker_config(version=1)) for _ in range(50)}) == 1
    assert (source.reads, cache.builds) == (1, 1)


def test_a_newer_version_is_loaded_and_an_older_one_is_not() -> None:
    source = Source()
    cache = SnapshotCache(source.load)
    cache.get()
    source.version = 2
    assert cache.get(version=1).version == 1
    assert cache.get(version=2).version == 2
    assert cache.get(version=1).version == 2
    assert source.reads == 2


def test_a_snapshot_is_not_trusted_for_longer_than_its_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    source.settings = RuntimeSettings(config_ttl=100)
    cache = SnapshotCache(source.load)
    start = time.monotonic()
    cache.get()
    monkeypatch.setattr(time, "monotonic", lambda: start + 99)
    cache.get()
    assert source.reads == 1
    monkeypatch.setattr(time, "monotonic", lambda: start + 102)
    cache.get()
    assert source.reads == 2


def test_invalidation_loads_anew() -> None:
    source = Source()
    cache = SnapshotCache(source.load)
    cache.get()
    cache.invalidate()
    cache.get()
    assert source.reads == 2


def test_a_tenant_sees_its_own_values_over_the_common_ones() -> None:
    snapshot = Source().load()
    assert snapshot.for_tenant("acme").rag_chunk_size == 64
    assert snapshot.for_tenant("other").rag_chunk_size == RuntimeSettings().rag_chunk_size


def test_without_a_source_the_error_says_what_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_worker_config", None)
    with pytest.raises(RuntimeError, match="configure_worker_config"):
        get_worker_config()
