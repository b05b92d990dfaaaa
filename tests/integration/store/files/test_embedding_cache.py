"""Vectors in the database: the same bits again, of one tenant, for a while and up to a number."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from sqlalchemy import text

from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.purge import purge_vectors
from emberq.store.files.embedding_cache import CachedVector, CacheKey, cache_vectors, cached_vectors
from emberq.store.services import Services

MONTH = 30 * 86400.0


def key(number: int, tenant: str = "default") -> CacheKey:
    return tenant, number.to_bytes(32, "big")


def remember(services: Services, numbers: range, *, hours_ago: float = 0) -> None:
    vectors = {key(n): CachedVector(np.full(3, n, np.float32), n) for n in numbers}
    with services.database.system_transaction() as connection:
        cache_vectors(connection, vectors)
        connection.execute(
            text(
                "UPDATE embedding_cache SET used_at = now() - make_interval(secs => :seconds)"
                " WHERE fingerprint = ANY(:marks)"
            ),
            {"seconds": hours_ago * 3600, "marks": [key(n)[1] for n in numbers]},
        )


def known(services: Services, numbers: range) -> list[int]:
    with services.database.system_transaction() as connection:
        found = cached_vectors(connection, [key(n) for n in numbers])
    return sorted(int.from_bytes(mark, "big") for _, mark in found)


def test_a_vector_comes_back_to_the_last_bit_for_its_tenant_alone(services: Services) -> None:
    vector = np.random.default_rng(7).standard_normal(384).astype(np.float32)
    with services.database.system_transaction() as connection:
        cache_vectors(connection, {key(1): CachedVector(vector, 9)})
        cache_vectors(connection, {key(1): CachedVector(vector * 2, 9)})
        found = cached_vectors(connection, [key(1), key(2), key(1, "other")])
    assert list(found) == [key(1)]
    assert found[key(1)].vector.tobytes() == vector.tobytes()
    assert found[key(1)].tokens == 9


def test_nothing_is_found_and_kept_for_nothing(services: Services) -> None:
    with services.database.system_transaction() as connection:
        cache_vectors(connection, {})
        assert cached_vectors(connection, []) == {}


def test_vectors_without_requests_are_deleted_and_others_stay(services: Services) -> None:
    remember(services, range(3), hours_ago=31 * 24)
    remember(services, range(3, 5), hours_ago=29 * 24)
    assert known(services, range(2)) == [0, 1]
    assert purge_vectors(services, ttl_seconds=MONTH, max_rows=100) == 1
    assert known(services, range(5)) == [0, 1, 3, 4]


def test_of_too_many_the_longest_unused_go(services: Services) -> None:
    for n in range(6):
        remember(services, range(n, n + 1), hours_ago=n)
    assert purge_vectors(services, ttl_seconds=MONTH, max_rows=4) == 2
    assert known(services, range(6)) == [0, 1, 2, 3]
    assert purge_vectors(services, ttl_seconds=MONTH, max_rows=4) == 0
    assert purge_vectors(services, ttl_seconds=MONTH, max_rows=0) == 4


def test_maintenance_purges_vectors(services: Services) -> None:
    remember(services, range(3), hours_ago=31 * 24)
    Maintenance(services).tick()
    assert known(services, range(3)) == []


@pytest.mark.parametrize("hours_ago", [0, 2])
def test_processes_with_the_same_texts_do_not_wait_in_a_circle(services: Services, hours_ago: float) -> None:
    remember(services, range(0, 100, 2), hours_ago=hours_ago)
    failures: list[BaseException] = []

    def work(numbers: range) -> None:
        try:
            for _ in range(10):
                with services.database.system_transaction() as connection:
                    cached_vectors(connection, [key(n) for n in numbers])
                    cache_vectors(
                        connection, {key(n): CachedVector(np.zeros(3, np.float32), 1) for n in numbers}
                    )
        except BaseException as exc:  # noqa: BLE001 - told by the test
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(one,)) for one in (range(100), range(99, -1, -1)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert known(services, range(100)) == list(range(100))
