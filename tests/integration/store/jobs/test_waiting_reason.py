"""A waiting job says why it waits, and about how many jobs come first."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from emberq.store.admin.pauses import PauseScope, list_pauses, pause, resume
from emberq.store.jobs.queries import list_jobs
from emberq.store.services import Services
from tests.integration.store.crowd import Crowd


@pytest.fixture
def crowd(services: Services) -> Crowd:
    return Crowd(services)


def test_without_a_live_worker_every_job_waits_for_one(crowd: Crowd) -> None:
    first, second = crowd.add("a", 2)
    crowd.lease(2, seconds=-1)
    crowd.admit(1)
    assert [crowd.reason(first), crowd.reason(second)] == ["no_worker", "no_worker"]
    crowd.lease(1)
    assert [crowd.reason(first), crowd.reason(second)] == ["behind_0", "behind_1"]


def test_a_queue_that_no_worker_can_read_is_told(crowd: Crowd) -> None:
    (job,) = crowd.add("a", 1)
    crowd.lease(1, queue_error="suspended")
    assert crowd.reason(job) == "queue_broken"
    crowd.lease(1, queue_error=None)
    assert crowd.reason(job) == "behind_0"


def test_a_job_that_runs_or_is_over_does_not_wait(crowd: Crowd) -> None:
    running, over = crowd.add("a", 2)
    crowd.move([running], "processing")
    crowd.move([over], "completed")
    assert [crowd.reason(running), crowd.reason(over)] == [None, None]


def test_a_tenant_at_its_cap_is_told_so_and_is_not_counted_as_ahead(crowd: Crowd) -> None:
    crowd.lease(4)
    crowd.set("tenant_max_processing", 1, "capped")
    capped = crowd.add("capped", 10)
    crowd.move(capped[:1], "processing")
    [other] = crowd.add("other")
    assert crowd.reason(capped[5]) == "tenant_cap"
    assert crowd.reason(other) == "behind_0"


def test_backoff_is_told_until_its_end(crowd: Crowd) -> None:
    crowd.lease(1)
    [job] = crowd.add("a")
    crowd.sql("UPDATE jobs SET not_before = now() + interval '1 hour'")
    assert crowd.reason(job) == "backoff"
    crowd.sql("UPDATE jobs SET not_before = now() - interval '1 s'")
    assert crowd.reason(job) == "behind_0"


@pytest.mark.parametrize(
    ("scope", "name"),
    [(PauseScope.QUEUE, "emberq"), (PauseScope.TENANT, "a"), (PauseScope.COLLECTION, "docs")],
)
def test_a_pause_holds_back_what_waits_and_calls_back_tickets(
    crowd: Crowd, services: Services, scope: PauseScope, name: str
) -> None:
    crowd.lease(4)
    running, queued, pending = crowd.add("a", 3)
    [elsewhere] = crowd.add("a", collection="notes")
    [stranger] = crowd.add("b")
    crowd.move([running], "processing")
    assert crowd.admit(1) == [queued]
    with services.database.system_transaction() as connection:
        assert pause(connection, scope, "a", name) == 1
        assert pause(connection, scope, "a", name) == 0
        [shown] = list_pauses(connection, "a")
    assert (shown["scope"], shown["name"]) == (scope, name)
    assert shown["waiting"] == (2 if scope is PauseScope.COLLECTION else 3)
    assert [crowd.reason(job) for job in (running, queued, pending)] == [None, "paused", "paused"]
    free = {PauseScope.QUEUE: [], PauseScope.TENANT: [stranger], PauseScope.COLLECTION: [elsewhere, stranger]}
    assert set(crowd.admit(9)) == set(free[scope])
    with services.database.system_transaction() as connection:
        assert resume(connection, scope, "a", name)
        assert not resume(connection, scope, "a", name)
    assert {queued, pending} <= set(crowd.admit(9))


def test_a_pause_of_a_collection_ends_with_the_collection(crowd: Crowd, services: Services) -> None:
    crowd.add("a")
    with services.database.system_transaction() as connection:
        pause(connection, PauseScope.COLLECTION, "a", "docs")
    crowd.sql("DELETE FROM collections")
    assert crowd.sql("SELECT * FROM pauses") == []


def place_told(job: dict[str, Any]) -> int:
    return int(job["waiting_reason"].removeprefix("behind_"))


@pytest.mark.parametrize("seed", range(4))
def test_a_tenant_alone_is_told_the_places_it_is_admitted_at(crowd: Crowd, seed: int) -> None:
    chance = random.Random(seed)
    crowd.lease(4)
    for _ in range(40):
        crowd.add("a", collection=f"c{chance.randrange(3)}", priority=chance.choice([7, 100, 150]))
    told = {job["id"]: place_told(job) for job in crowd.listed("a", state="pending")}
    order = [job for _ in range(40) for job in crowd.admit_and_finish_ids(1)]
    assert told == {job: place for place, job in enumerate(order)}


def test_bulk_jobs_are_told_to_come_after_all_interactive_ones_and_never_wait_longer(crowd: Crowd) -> None:
    crowd.lease(4)
    bulk = set(crowd.add("a", 10, priority=200))
    crowd.add("a", 10)
    told = {job["id"]: place_told(job) for job in crowd.listed("a", state="pending")}
    order = [job for _ in range(20) for job in crowd.admit_and_finish_ids(1)]
    assert sorted(told.values()) == list(range(20))
    assert sorted(told[job] for job in bulk) == list(range(10, 20))
    assert all(place <= told[job] for place, job in enumerate(order) if job in bulk)


def test_among_tenants_the_estimate_follows_weights_and_turns(crowd: Crowd) -> None:
    crowd.lease(4)
    crowd.set("tenant_weight", 3, "heavy")
    for tenant in ("a", "b", "heavy"):
        crowd.add(tenant, 30)
    crowd.admit_and_finish(17)
    told = {
        job["id"]: place_told(job)
        for tenant in ("a", "b", "heavy")
        for job in crowd.listed(tenant, state="pending")
    }
    order = [job for _ in range(73) for job in crowd.admit_and_finish_ids(1)]
    assert len(order) == len(told) == 73
    assert told[order[0]] == 0
    # Roughly: a tenth of the whole line. Without weights or turns it would be off by more than half of it.
    assert max(abs(told[job] - place) for place, job in enumerate(order)) <= 7


def test_a_newcomer_is_told_to_be_next_in_spite_of_a_flood(crowd: Crowd) -> None:
    crowd.lease(4)
    crowd.add("flood", 500)
    crowd.admit_and_finish(50)
    newcomers = crowd.add("small", 3)
    told = [int(str(crowd.reason(job)).removeprefix("behind_")) for job in newcomers]
    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] < 10


def test_a_page_of_reasons_stays_cheap_in_a_flood(crowd: Crowd, services: Services) -> None:
    crowd.lease(4)
    crowd.add("a", 12_000)
    crowd.add("b", 50)
    started = time.perf_counter()
    with services.database.system_transaction() as connection:
        page = list_jobs(connection, "a", limit=500)
    assert time.perf_counter() - started < 5
    assert page[0]["waiting_reason"] == "behind_10000", "so many or more"
    assert place_told(crowd.listed("b")[0]) == pytest.approx(99, abs=3)
