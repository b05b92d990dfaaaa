from __future__ import annotations

import os

import pytest

from emberq.config.cache import SnapshotCache
from emberq.config.current import configure_worker_config, get_worker_config
from emberq.config.runtime import RuntimeSettings
from emberq.config.snapshot import Snapshot, Unreadable
from emberq.errors import DatabaseUnavailable
from tests.harness.clock import FakeClock


class Source:
    """A settings table that counts how often it is read."""

    def __init__(self) -> None:
        self.version = 1
        self.settings = RuntimeSettings()
        self.unreadable: tuple[Unreadable, ...] = ()
        self.is_away = False
        self.reads = 0

    def load(self, version: int | None = None) -> Snapshot:
        self.reads += 1
        if self.is_away:
            raise DatabaseUnavailable
        overrides = {"acme": {"rag_chunk_size": 64}}
        return Snapshot(
            self.version if version is None else version, self.settings, overrides, self.unreadable
        )


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


BROKEN = (Unreadable("rag_embedding_api_key", "", "A secret setting was sealed with another key"),)


def test_fifty_jobs_build_the_configuration_once(source: Source) -> None:
    cache = configure_worker_config(source.load)
    assert len({id(get_worker_config(version=1)) for _ in range(50)}) == 1
    assert len({id(get_worker_config()) for _ in range(50)}) == 1
    assert (source.reads, cache.builds) == (1, 1)


def test_each_version_is_built_once(source: Source) -> None:
    cache = SnapshotCache(source.load)
    for version in range(1, 8):
        source.version = version
        cache.newest.announce(version)
        cache.newest.confirm(lambda: source.version)
        assert {cache.get().version for _ in range(10)} == {version}
    assert cache.builds == source.reads == 7


def test_a_claimed_version_is_returned_exactly_even_if_a_newer_one_exists(source: Source) -> None:
    cache = SnapshotCache(source.load)
    source.version = 2
    cache.get()
    source.version = 4
    cache.newest.announce(4)
    assert cache.get(version=3).version == 3
    assert cache.get(version=3).version == 3
    assert source.reads == 2
    assert cache.get().version == 4
    assert cache.get(version=3).version == 3


def test_an_announced_version_is_loaded_by_the_next_call(source: Source) -> None:
    cache = SnapshotCache(source.load)
    cache.get()
    source.version = 2
    assert cache.get().version == 1
    cache.newest.announce(2)
    assert cache.get().version == 2


def test_a_forked_process_loads_what_its_parent_was_told_of(source: Source) -> None:
    cache = SnapshotCache(source.load)
    cache.get()
    source.version = 2
    told, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        before = cache.get().version
        os.read(told[0], 1)
        os.write(answer[1], bytes([before, cache.get().version]))
        os._exit(0)
    cache.newest.announce(2)
    os.write(told[1], b"!")
    versions = os.read(answer[0], 2)
    os.waitpid(pid, 0)
    for descriptor in (*told, *answer):
        os.close(descriptor)
    assert versions[1] == 2


def test_a_snapshot_that_is_not_confirmed_is_trusted_no_longer_than_its_ttl(
    source: Source, clock: FakeClock
) -> None:
    source.settings = RuntimeSettings(config_ttl=100)
    cache = SnapshotCache(source.load, clock=clock)
    cache.get()
    clock.now += 99
    cache.get()
    assert source.reads == 1
    clock.now += 2
    cache.get()
    assert source.reads == 2


def test_a_confirmed_snapshot_is_not_loaded_again(source: Source, clock: FakeClock) -> None:
    cache = SnapshotCache(source.load, clock=clock)
    cache.get()
    for _ in range(100):
        clock.now += 5
        cache.newest.confirm(lambda: 1)
        cache.get()
    assert source.reads == 1


def test_a_database_that_went_back_is_believed(source: Source) -> None:
    source.version = 9
    cache = SnapshotCache(source.load)
    cache.newest.announce(9)
    cache.get()
    source.version = 6
    cache.newest.confirm(lambda: 6)
    assert cache.get().version == 6
    assert cache.get().version == 6
    assert source.reads == 2


def test_while_the_database_is_away_the_stored_snapshot_serves_on(source: Source, clock: FakeClock) -> None:
    cache = SnapshotCache(source.load, clock=clock)
    cache.get()
    source.is_away = True
    clock.now += 1000
    assert [cache.get().version for _ in range(20)] == [1] * 20
    assert source.reads == 2
    with pytest.raises(DatabaseUnavailable):
        cache.get(version=2)
    source.is_away, source.version = False, 2
    clock.now += 5
    assert cache.get().version == 2


def test_an_unreadable_version_leaves_the_last_good_one_in_use(source: Source, clock: FakeClock) -> None:
    cache = SnapshotCache(source.load, clock=clock)
    good = cache.get()
    source.version, source.unreadable = 2, BROKEN
    cache.newest.announce(2)
    assert cache.get() is good
    assert cache.get(version=2) is good
    assert [cache.get(version=2) is good for _ in range(50)] == [True] * 50
    assert source.reads <= 3
    assert (cache.applied_version, cache.unreadable) == (1, BROKEN)
    source.version, source.unreadable = 3, ()
    cache.newest.announce(3)
    clock.now += 5
    assert cache.get().version == 3
    assert (cache.applied_version, cache.unreadable) == (3, ())


def test_a_process_that_starts_with_an_unreadable_value_works_without_it_and_says_so(source: Source) -> None:
    source.unreadable = BROKEN
    cache = SnapshotCache(source.load)
    assert cache.get().settings == RuntimeSettings()
    assert (cache.applied_version, cache.unreadable) == (0, BROKEN)
