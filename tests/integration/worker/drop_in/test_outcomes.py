"""Failure, retry, repeat, schedule, dependencies: the same with both worker classes."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rq import Queue, Repeat, Retry, Worker
from rq.cron import CronScheduler
from rq.group import Group
from rq.job import Job, JobStatus
from rq.rate_limit import RateLimit
from rq.registry import FailedJobRegistry
from rq.results import Result

from tests.harness.workers import wait_for_status
from tests.integration.worker.drop_in.yard import Yard, exc_string
from tests.jobs import drop_in as jobs

#: RQ's own worker forks while its pub/sub thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_failures_are_retried_as_asked(yard: Yard) -> None:
    once = yard.queue.enqueue(jobs.fail_once, retry=Retry(max=1))
    always = yard.queue.enqueue(jobs.fail, retry=Retry(max=2))
    returned = yard.queue.enqueue(jobs.ask_again)
    yard.burst()
    assert once.return_value() == "second time"
    assert always.get_status() == JobStatus.FAILED
    assert "ValueError: as expected" in exc_string(always)
    assert always in FailedJobRegistry(queue=yard.queue)
    assert returned.return_value() == "enough"
    assert [result.type for result in returned.results()].count(Result.Type.RETRIED) == 2


def test_retries_and_repeats_with_intervals_wait_in_the_schedule(yard: Yard) -> None:
    failing = yard.queue.enqueue(jobs.fail, retry=Retry(max=1, interval=60))
    repeated = yard.queue.enqueue(jobs.add, 1, 1, repeat=Repeat(times=2, interval=60))
    at_once = yard.queue.enqueue(jobs.note, "repeats", "x", repeat=Repeat(times=2, interval=0))
    yard.burst()
    waiting = yard.queue.scheduled_job_registry.get_job_ids()
    assert set(waiting) == {failing.id, repeated.id}
    assert yard.connection.llen("repeats") == 3
    assert at_once.get_status() == JobStatus.FINISHED


def test_the_scheduler_enqueues_what_is_due(yard: Yard) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    due = yard.queue.enqueue_at(past, jobs.add, 2, 2)
    yard.burst(with_scheduler=True)
    assert due.return_value() == 4


def test_a_scheduler_process_beside_the_worker_ends_with_it(yard: Yard) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    due = yard.queue.enqueue_at(soon, jobs.add, 2, 3)

    def stop(_worker: Worker) -> None:
        wait_for_status(due, JobStatus.FINISHED)
        os.kill(os.getpid(), signal.SIGTERM)

    scheduler: Any = yard.serve(stop, with_scheduler=True).scheduler
    assert not scheduler._process.is_alive()


def test_cron_enqueues_for_the_worker(yard: Yard) -> None:
    cron = CronScheduler(connection=yard.connection)
    cron.register(jobs.add, yard.queue.name, args=(3, 4), interval=60)
    [entry] = cron.enqueue_jobs()
    yard.burst()
    [job_id] = entry.get_job_ids(yard.connection)
    assert Job.fetch(job_id, connection=yard.connection).return_value() == 7


def test_dependents_run_after_what_they_depend_on(yard: Yard) -> None:
    first = yard.queue.enqueue(jobs.note, "order", "first")
    failing = yard.queue.enqueue(jobs.fail)
    second = yard.queue.enqueue(jobs.note, "order", "second", depends_on=first)
    never = yard.queue.enqueue(jobs.note, "order", "never", depends_on=failing)
    yard.burst()
    assert yard.connection.lrange("order", 0, -1) == [b"first", b"second"]
    assert second.get_status() == JobStatus.FINISHED
    assert never.get_status() == JobStatus.DEFERRED


def test_groups_rate_limits_and_unique_jobs(yard: Yard) -> None:
    group = Group.create(connection=yard.connection)
    members = group.enqueue_many(
        yard.queue, [Queue.prepare_data(jobs.add, (1, 1)), Queue.prepare_data(jobs.add, (2, 2))]
    )
    limit = RateLimit(key="one", concurrency=1)
    limited = [yard.queue.enqueue(jobs.add, number, 0, rate_limit=limit) for number in range(3)]
    yard.queue.enqueue(jobs.note, "unique", "x", job_id="same", unique=True)
    with pytest.raises(Exception, match="same"):
        yard.queue.enqueue(jobs.note, "unique", "y", job_id="same", unique=True)
    yard.burst()
    assert sorted(job.return_value() for job in members) == [2, 4]
    assert [job.return_value() for job in limited] == [0, 1, 2]
    assert yard.connection.lrange("unique", 0, -1) == [b"x"]
