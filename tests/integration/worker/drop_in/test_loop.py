"""The work loop of both worker classes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rq import Queue, Worker
from rq.job import JobStatus
from rq.worker import DequeueStrategy

from tests.harness.eventually import scaled
from tests.integration.worker.drop_in.yard import Yard
from tests.jobs import drop_in as jobs

#: RQ's own worker forks while its pub/sub thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_burst_runs_what_there_is_and_leaves(yard: Yard) -> None:
    results = [yard.queue.enqueue(jobs.add, number, 1) for number in range(5)]
    worker = yard.burst()
    assert [job.return_value() for job in results] == [1, 2, 3, 4, 5]
    worker.refresh()  # type: ignore[no-untyped-call]
    assert (worker.successful_job_count, worker.failed_job_count) == (5, 0)
    assert worker.total_working_time > 0
    assert worker.execution is None
    assert worker.get_current_job_id() is None
    assert worker.death_date is not None
    assert worker not in Worker.all(connection=yard.connection)


def test_max_jobs_and_max_idle_time_end_the_work(yard: Yard) -> None:
    for _ in range(3):
        yard.queue.enqueue(jobs.add, 1, 1)
    yard.worker().work(max_jobs=2, logging_level="ERROR")
    assert yard.queue.count == 1
    began = time.monotonic()
    yard.worker().work(max_idle_time=1, logging_level="ERROR")
    assert yard.queue.count == 0
    assert 1 <= time.monotonic() - began < scaled(60)


def test_one_worker_object_works_more_than_once(yard: Yard) -> None:
    worker = yard.worker()
    for number in range(2):
        job = yard.queue.enqueue(jobs.add, number, 1)
        yard.burst(worker)
        assert job.return_value() == number + 1


def test_methods_of_the_loop_work_without_it_and_see_what_changed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = yard.worker()
    answers = []
    for name in ("first", "second"):
        monkeypatch.setattr(jobs, "add", lambda left, right, name=name: f"{name} {left}{right}")
        yard.queue.enqueue("tests.jobs.drop_in.add", 1, 2)
        taken = worker.dequeue_job_and_maintain_ttl(None)
        assert taken is not None
        job, queue = taken
        worker.execute_job(job, queue)
        answers.append(job.return_value())
        assert worker.horse_pid == 0
        assert yard.connection.hget(worker.key, "state") == b"idle"
    assert answers == ["first 12", "second 12"]


def test_a_horse_sees_what_was_set_before_the_work(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "add", lambda left, right: f"patched {left}{right}")
    patched = yard.queue.enqueue("tests.jobs.drop_in.add", 1, 2)
    yard.burst()
    assert patched.return_value() == "patched 12"


@pytest.mark.parametrize("strategy", [DequeueStrategy.ROUND_ROBIN, DequeueStrategy.RANDOM])
def test_several_queues_are_served_by_a_strategy(yard: Yard, strategy: DequeueStrategy) -> None:
    queues = [Queue(name, connection=yard.connection) for name in ("a", "b")]
    for queue in queues:
        for _ in range(2):
            queue.enqueue(jobs.note, "order", queue.name)
    yard.burst(yard.worker(*queues), dequeue_strategy=strategy)
    order = yard.words("order")
    assert sorted(order) == ["a", "a", "b", "b"]
    if strategy is DequeueStrategy.ROUND_ROBIN:
        assert order == ["a", "b", "a", "b"]


def test_what_is_written_about_a_running_job(yard: Yard) -> None:
    job = yard.queue.enqueue(jobs.look_at_execution)
    worker = yard.burst()
    seen: dict[str, Any] = job.return_value() or {}
    fields = seen.pop("fields")
    assert {"started_at", "worker_name", "last_heartbeat", "status", "data", "origin"} <= set(fields)
    assert seen == {
        "status": JobStatus.STARTED,
        "registered": True,
        "execution_of": True,
        "worker_state": "busy",
        "worker_executions": 1,
        "intermediate": 0,
        "job_ttl": -1,
        "worker_ttl_ok": True,
        "environment": True,
    }
    assert job.get_executions() == []
    assert yard.connection.exists(worker.executions_key) == 0
    assert yard.connection.keys("rq:execution:*") == []
