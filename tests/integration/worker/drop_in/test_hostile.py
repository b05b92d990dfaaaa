"""Jobs that do harm: the same with both worker classes."""

from __future__ import annotations

import pytest
from rq.job import JobStatus

from tests.integration.worker.drop_in.yard import Yard, exc_string
from tests.jobs import drop_in as jobs

#: RQ's own worker forks while its pub/sub thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.parametrize("how", ["sys.exit", "KeyboardInterrupt", "MemoryError"])
def test_what_a_job_raises_fails_it_and_nothing_else(yard: Yard, how: str) -> None:
    job, after = yard.queue.enqueue(jobs.leave, how), yard.queue.enqueue(jobs.add, 1, 1)
    yard.burst()
    assert job.get_status() == JobStatus.FAILED
    assert after.return_value() == 2


@pytest.mark.parametrize("how", ["_exit", "SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_job_that_ends_its_process_fails(yard: Yard, how: str) -> None:
    job, after = yard.queue.enqueue(jobs.leave, how), yard.queue.enqueue(jobs.add, 1, 1)
    yard.burst()
    assert job.get_status() == JobStatus.FAILED
    assert after.return_value() == 2


def test_jobs_that_cannot_be_loaded_fail_with_the_reason(yard: Yard) -> None:
    missing = yard.queue.enqueue("no_such_module.function")
    garbled = yard.queue.enqueue(jobs.add, jobs.Undecodable(), 1)
    garbled_meta = yard.queue.enqueue(jobs.add, 1, 1)
    yard.connection.hset(garbled_meta.key, "meta", b"cno_such_module\nThing\n.")
    unreadable = yard.queue.enqueue(jobs.add, 1, 1)
    yard.connection.hset(unreadable.key, "data", b"not a pickle")
    after = yard.queue.enqueue(jobs.add, 1, 1)
    yard.burst()
    assert "no_such_module" in exc_string(missing)
    assert "DeserializationError" in exc_string(garbled)
    assert "DeserializationError" in exc_string(unreadable)
    assert garbled_meta.return_value() == 2
    assert after.return_value() == 2


def test_deleted_jobs_are_passed_over(yard: Yard) -> None:
    gone, after = yard.queue.enqueue(jobs.add, 1, 1), yard.queue.enqueue(jobs.add, 1, 1)
    yard.connection.delete(gone.key)
    yard.burst()
    assert after.return_value() == 2


def test_a_job_may_close_all_descriptors_and_change_its_process(yard: Yard) -> None:
    before = yard.queue.enqueue(jobs.process_id)
    closing = yard.queue.enqueue(jobs.close_everything)
    changing = yard.queue.enqueue(jobs.change_process)
    slow = yard.queue.enqueue(jobs.sleep, 30, job_timeout=1)
    after = yard.queue.enqueue(jobs.process_id)
    yard.burst()
    assert closing.get_status() in (JobStatus.FINISHED, JobStatus.FAILED)
    assert changing.return_value() == "changed"
    assert "JobTimeoutException" in exc_string(slow)
    assert before.return_value() != after.return_value()
