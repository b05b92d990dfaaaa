"""Who runs next: turns, weights, caps, bulk jobs, and the plan of the statement that decides."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import pairwise

import pytest
from sqlalchemy import text

from emberq.store.jobs.admission import ADMIT_STATEMENT, admission_parameters, admit_jobs, count_waiting
from emberq.store.services import Services
from tests.harness.eventually import eventually, scaled
from tests.integration.store.crowd import Crowd, Pool, explain
from tests.integration.store.overlap import waits_for_lock


@pytest.fixture
def crowd(services: Services) -> Crowd:
    return Crowd(services)


def test_only_as_many_tickets_wait_as_live_slots_could_take(crowd: Crowd) -> None:
    crowd.add("a", 10)
    assert len(crowd.admit()) == 1, "with no worker at all one ticket is ready for the first"
    crowd.lease(3)
    crowd.lease(50, seconds=-1)
    assert len(crowd.admit()) == 2
    assert crowd.admit() == []
    crowd.sql("UPDATE jobs SET state = 'processing' WHERE state = 'queued'")
    assert len(crowd.admit()) == 3


def test_tenants_take_turns_whatever_they_have_waiting(crowd: Crowd) -> None:
    crowd.add("flood", 200)
    crowd.add("b", 20)
    crowd.add("c", 20)
    order = [tenant for _ in range(30) for tenant in crowd.admit_and_finish(1)]
    assert Counter(order) == {"flood": 10, "b": 10, "c": 10}
    assert all(len(set(order[n : n + 3])) == 3 for n in range(0, 30, 3))


def test_many_admitted_at_once_are_shared_like_one_by_one(crowd: Crowd) -> None:
    crowd.add("flood", 100)
    crowd.add("b", 100)
    assert Counter(crowd.admit_and_finish(20)) == {"flood": 10, "b": 10}


def test_weights_share_the_turns(crowd: Crowd) -> None:
    crowd.set("tenant_weight", 3, "heavy")
    crowd.set("tenant_weight", 0.5, "light")
    for tenant in ("heavy", "light", "plain"):
        crowd.add(tenant, 100)
    shares = Counter(tenant for _ in range(90) for tenant in crowd.admit_and_finish(1))
    assert shares["plain"] == pytest.approx(20, abs=1)
    assert shares["heavy"] == pytest.approx(60, abs=2)
    assert shares["light"] == pytest.approx(10, abs=1)


def test_a_new_tenant_is_next_and_no_tenant_saves_turns(crowd: Crowd) -> None:
    crowd.add("old", 1)
    crowd.admit_and_finish(1)
    crowd.add("flood", 100)
    for _ in range(5):
        crowd.admit_and_finish(10)
    crowd.add("old", 20)
    order = [tenant for _ in range(10) for tenant in crowd.admit_and_finish(1)]
    assert order[0] == "old"
    assert Counter(order) == {"old": 5, "flood": 5}, "old did not run for a while, and gets no credit for it"


def test_a_cap_bounds_what_a_tenant_has_queued_and_at_work(crowd: Crowd) -> None:
    crowd.set("tenant_max_processing", 2, "capped")
    crowd.set("tenant_max_processing", 4)
    first = crowd.add("capped", 10)
    crowd.add("other", 10)
    admitted = Counter(crowd.names[job] for job in crowd.admit(20))
    assert admitted == {"capped": 2, "other": 4}
    assert crowd.admit(20) == []
    crowd.move(first[:1], "completed")
    assert [crowd.names[job] for job in crowd.admit(20)] == ["capped"]


def test_an_admitter_sees_what_another_has_not_committed_yet(crowd: Crowd) -> None:
    crowd.set("tenant_max_processing", 1)
    crowd.add("a", 5)
    second: list[object] = []
    with crowd.services.database.system_transaction() as connection:
        assert len(admit_jobs(connection, limit=3)) == 1
        crowd.add("a", priority=1)
        other = threading.Thread(target=lambda: second.extend(crowd.admit(3)))
        other.start()
        eventually(lambda: not other.is_alive() or waits_for_lock(crowd.services))
    other.join()
    assert second == []


def test_admitters_at_the_same_time_keep_caps_and_take_no_job_twice(crowd: Crowd) -> None:
    crowd.set("tenant_max_processing", 5)
    crowd.lease(100)
    for tenant in "abcdefgh":
        crowd.add(tenant, 50)
    admitted: list[object] = []
    together = threading.Barrier(8)

    def admit() -> None:
        together.wait()
        for _ in range(5):
            admitted.extend(crowd.admit(7))

    threads = [threading.Thread(target=admit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == len(set(admitted)) == 40
    [counts] = crowd.sql(
        "SELECT max(n), sum(n) FROM"
        " (SELECT count(*) AS n FROM jobs WHERE state = 'queued' GROUP BY tenant) AS tenants"
    )
    assert tuple(counts) == (5, 40)


def test_a_locked_job_is_skipped_and_not_waited_for(crowd: Crowd) -> None:
    locked, free = crowd.add("a", 2)
    with crowd.services.database.system_transaction() as connection:
        connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": locked})
        assert crowd.admit(2) == [free]
    assert crowd.admit(2) == [locked]


def test_interactive_runs_before_bulk_and_bulk_goes_on(crowd: Crowd) -> None:
    bulk = set(crowd.add("a", 100, priority=200))
    crowd.admit_and_finish(13)
    crowd.add("a", 100)
    order = []
    for _ in range(40):
        [job] = crowd.admit(1)
        crowd.move([job], "completed")
        order.append("bulk" if job in bulk else "interactive")
    assert Counter(order) == {"interactive": 32, "bulk": 8}
    turns = [n for n, kind in enumerate(order) if kind == "bulk"]
    assert all(later - earlier == 5 for earlier, later in pairwise(turns))


def test_interactive_and_bulk_admitted_at_once_keep_the_same_order(crowd: Crowd) -> None:
    bulk = set(crowd.add("a", 20, priority=200))
    crowd.add("a", 20)
    order = ["b" if job in bulk else "i" for job in crowd.admit(20)]
    assert "".join(order) == "iiiib" * 4


def test_a_low_number_runs_first_within_a_tenant(crowd: Crowd) -> None:
    jobs = {
        priority: crowd.add("a", 1, priority=priority, collection=f"c{priority}")[0]
        for priority in (150, 7, 100)
    }
    assert crowd.admit(3) == [jobs[7], jobs[100], jobs[150]]


def test_equal_jobs_run_in_the_order_of_their_upload_over_all_collections(crowd: Crowd) -> None:
    jobs = [crowd.add("a", 1, collection=f"c{n % 3}")[0] for n in range(9)]
    assert crowd.admit(9) == jobs


def test_a_paused_backoff_is_not_stepped_over_but_left_out_of_the_index(crowd: Crowd) -> None:
    waiting, due, ready = crowd.add("a", 3)
    crowd.sql("UPDATE jobs SET not_before = now() + interval '1 hour' WHERE id = :id", id=waiting)
    crowd.sql("UPDATE jobs SET not_before = now() - interval '1 s' WHERE id = :id", id=due)
    assert crowd.admit(5) == [due, ready]


def test_waiting_jobs_are_counted_with_those_held_back(services: Services, crowd: Crowd) -> None:
    jobs = crowd.add("a", 5)
    crowd.admit(1)
    crowd.sql("UPDATE jobs SET not_before = now() + interval '1 hour' WHERE id = :id", id=jobs[-1])
    crowd.add("b", 3)
    with services.database.system_transaction() as connection:
        assert count_waiting(connection, "a", most=100) == 5


def test_a_flood_of_ten_thousand_raises_another_tenants_p95_by_at_most_two_job_lengths(crowd: Crowd) -> None:
    crowd.lease(4)
    arrivals = [(0.37 + 1.37 * n, "small") for n in range(60)]

    alone = Pool(crowd, slots=4)
    alone.run(arrivals)
    crowd.sql("DELETE FROM jobs")

    crowd.add("flood", 10_000)
    flooded = Pool(crowd, slots=4)
    flooded.run(arrivals)

    before, during = (sorted(pool.waits["small"])[56] for pool in (alone, flooded))
    assert before == 0
    assert 0 < during <= before + 2 * flooded.length
    [[left]] = crowd.sql("SELECT count(*) FROM jobs WHERE tenant = 'flood' AND state = 'pending'")
    assert left > 9_000, "the flood lasted to the end"


@pytest.mark.slow
def test_admission_touches_a_handful_of_rows_among_a_hundred_thousand(crowd: Crowd) -> None:
    for n in range(10):
        crowd.add(f"tenant{n}", 10_000, priority=100 + 100 * (n % 2))
    crowd.lease(8)
    crowd.sql("ANALYZE")
    parameters = admission_parameters(8)
    with crowd.services.database.system_transaction() as connection:
        nodes = explain(connection, ADMIT_STATEMENT.text, parameters)
        scans = [
            node for node in nodes if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]
        ]
        assert {node["Index Name"] for node in scans} <= {"jobs_ready", "jobs_live", "jobs_pkey"}
        assert "jobs_ready" in {node["Index Name"] for node in scans}
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) < 500
        connection.rollback()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        with crowd.services.database.system_transaction() as connection:
            assert len(admit_jobs(connection, limit=8)) == 8
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < scaled(1)
