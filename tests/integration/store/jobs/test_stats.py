"""What waits and how long it will take: the signals that dashboards and autoscalers read."""

from __future__ import annotations

import pytest

from emberq.store.jobs import stats
from emberq.store.jobs.stats import QueueStats, read_queue, read_stats
from emberq.store.services import Services
from tests.integration.store.crowd import Crowd, explain


@pytest.fixture
def crowd(services: Services) -> Crowd:
    return Crowd(services)


def read(crowd: Crowd, tenant: str | None = None) -> QueueStats:
    with crowd.services.database.system_transaction() as connection:
        return read_queue(connection, tenant)


def test_an_empty_queue_has_no_depth_age_or_backlog(crowd: Crowd) -> None:
    assert read(crowd) == QueueStats({"pending": 0, "queued": 0, "processing": 0}, 0, 0, 0, 0)


def test_the_backlog_is_what_waits_times_its_length_per_live_worker(crowd: Crowd) -> None:
    done = crowd.add("a", 2)
    crowd.put(
        "UPDATE jobs SET state = 'completed', started_at = now() - interval '10 s', ended_at = now()"
        " WHERE id = ANY(:ids)",
        ids=done,
    )
    crowd.add("a", 5)
    crowd.add("b", 3)
    crowd.lease(2)
    crowd.lease(9, seconds=-1)
    crowd.move(crowd.admit(1), "processing")
    crowd.admit(1)
    crowd.sql("UPDATE jobs SET created_at = now() - interval '100 s' WHERE state = 'processing'")
    crowd.sql("UPDATE jobs SET created_at = now() - interval '50 s' WHERE state = 'queued'")
    seen = read(crowd)
    assert seen.depth == {"pending": 6, "queued": 1, "processing": 1}
    assert seen.workers == 2
    assert seen.job_seconds == pytest.approx(10)
    assert seen.backlog_seconds == pytest.approx(7 * 10 / 2)
    assert seen.oldest_seconds == pytest.approx(50, abs=5)


def test_a_tenant_sees_its_own_queue(crowd: Crowd, services: Services) -> None:
    crowd.add("a", 5)
    crowd.add("b", 3)
    crowd.sql("UPDATE jobs SET not_before = now() + interval '1 hour' WHERE tenant = 'b'")
    assert read(crowd, "b").depth["pending"] == 3
    with services.database.system_transaction() as connection:
        assert read_stats(connection, "b").jobs["pending"] == 3


def test_the_queue_is_measured_without_reading_the_jobs_that_are_over(crowd: Crowd) -> None:
    crowd.move(crowd.add("a", 5000), "completed")
    crowd.add("a", 10)
    crowd.sql("ANALYZE")
    with crowd.services.database.system_transaction() as connection:
        nodes = explain(connection, stats._QUEUE.text, {"tenant": "", "sample": 20})
    scans = [node for node in nodes if node.get("Relation Name") == "jobs"]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 30
