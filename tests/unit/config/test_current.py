from __future__ import annotations

import pytest

from emberq.config import current as snapshots
from emberq.config.current import configure_worker_config, get_config_cache, get_worker_config, pinned_config
from emberq.config.runtime import RuntimeSettings
from emberq.config.snapshot import Snapshot


@pytest.fixture
def versions() -> list[int]:
    """The versions that exist; the process's configuration comes from the last one."""
    made = [1]
    configure_worker_config(lambda version: Snapshot(made[-1] if version is None else version))
    return made


def test_within_a_job_the_snapshot_stays_the_same(versions: list[int]) -> None:
    cache = get_config_cache()
    with pinned_config():
        first = get_worker_config()
        versions.append(2)
        cache.newest.announce(2)
        assert cache.get().version == 2
        assert get_worker_config() is first
    with pinned_config():
        assert get_worker_config().version == 2


def test_a_claim_within_a_job_pins_the_claimed_version(versions: list[int]) -> None:
    cache = get_config_cache()
    with pinned_config():
        assert get_worker_config(version=5).version == 5
        cache.newest.announce(6)
        assert get_worker_config().version == 5
        assert get_worker_config(version=5).version == 5
        assert cache.builds == 1


def test_a_tenant_sees_its_own_values_over_the_common_ones() -> None:
    snapshot = Snapshot(1, overrides={"acme": {"rag_chunk_size": 64}})
    assert snapshot.for_tenant("acme").rag_chunk_size == 64
    assert snapshot.for_tenant("other").rag_chunk_size == RuntimeSettings().rag_chunk_size


def test_without_a_source_the_error_says_what_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_cache", None)
    with pytest.raises(RuntimeError, match="configure_worker_config"):
        get_worker_config()
