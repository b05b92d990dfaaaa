"""Where WarmWorker does better than RQ's own worker."""

from __future__ import annotations

import logging
import os
import signal
import time

import pytest
from rq import Worker
from rq.job import JobStatus
from rq.results import Result
from rq.worker import WorkerStatus

from emberq import WarmWorker
from emberq.worker.preloader.preloader import Preloader
from tests.harness.eventually import eventually, scaled
from tests.harness.process_table import alive
from tests.harness.workers import wait_for_status
from tests.integration.worker.drop_in.yard import Yard
from tests.jobs import drop_in as jobs

#: RQ's own worker forks while its pub/sub thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_exit_0_in_the_middle_of_a_job_fails_it(warm_yard: Yard) -> None:
    job, after = warm_yard.queue.enqueue(jobs.leave, "_exit_0"), warm_yard.queue.enqueue(jobs.add, 1, 1)
    warm_yard.burst()
    assert job.get_status() == JobStatus.FAILED
    assert after.return_value() == 2


@pytest.mark.parametrize("how", ["return", "raise", "exit"])
def test_a_process_that_comes_back_from_a_job_does_not_answer_for_it(warm_yard: Yard, how: str) -> None:
    job = warm_yard.queue.enqueue(jobs.fork_and_return, how)
    after = warm_yard.queue.enqueue(jobs.process_id)
    worker = warm_yard.burst()
    assert [result.type for result in job.results()] == [Result.Type.SUCCESSFUL]
    assert job.return_value() == "parent"
    assert after.get_status() == JobStatus.FINISHED
    worker.refresh()  # type: ignore[no-untyped-call]
    assert (worker.successful_job_count, worker.failed_job_count) == (2, 0)


def test_a_dead_horse_is_noticed_although_its_child_holds_the_socket(warm_yard: Yard) -> None:
    job, after = warm_yard.queue.enqueue(jobs.fork_and_stay, 600), warm_yard.queue.enqueue(jobs.add, 1, 1)
    warm_yard.burst()
    [child] = [int(word) for word in warm_yard.words("stays")]
    # It was there all the time.
    os.kill(child, signal.SIGKILL)
    assert job.get_status() == JobStatus.FAILED
    assert after.return_value() == 2


def test_a_job_given_just_when_the_worker_is_told_to_stop_goes_back(warm_yard: Yard) -> None:
    queue = jobs.SignalledQueue("signalled", connection=warm_yard.connection)
    first, second = queue.enqueue(jobs.add, 1, 1), queue.enqueue(jobs.add, 1, 1)
    warm_yard.worker(queue, queue_class=jobs.SignalledQueue).work(logging_level="ERROR")
    assert first.get_status() == JobStatus.QUEUED
    assert queue.job_ids == [first.id, second.id]
    assert queue.intermediate_queue.get_job_ids() == []


def test_a_job_requeued_by_a_second_signal_runs_again(warm_yard: Yard) -> None:
    running = warm_yard.queue.enqueue(jobs.sleep, 600)

    def stop(worker: Worker) -> None:
        eventually(lambda: worker.horse_pid)
        warm_yard.stop_at_once(worker)

    with pytest.raises(SystemExit):
        warm_yard.serve(stop)
    assert running.get_status(refresh=True) == JobStatus.QUEUED
    assert warm_yard.queue.job_ids == [running.id]


def test_a_preloader_that_dies_is_made_anew(warm_yard: Yard) -> None:
    worker = warm_yard.worker()
    assert isinstance(worker, WarmWorker)

    def kill(_worker: Worker) -> None:
        first = warm_yard.queue.enqueue(jobs.add, 1, 1)
        wait_for_status(first, JobStatus.FINISHED)
        preloader, horse = worker._lifecycle._preloader, worker._lifecycle.horse
        assert isinstance(preloader, Preloader)
        assert horse is not None
        os.kill(preloader.pid, signal.SIGKILL)
        # The horse's socket is the worker's to read, in another thread.
        eventually(lambda: not alive([horse.child.pid]))
        later = [warm_yard.queue.enqueue(jobs.add, 1, 1) for _ in range(2)]
        eventually(lambda: all(job.get_status(refresh=True) == JobStatus.FINISHED for job in later))
        os.kill(os.getpid(), signal.SIGTERM)

    warm_yard.serve(kill, worker=worker)
    assert warm_yard.queue.finished_job_registry.count == 3
    assert logging.getLogger("rq.worker").level == logging.ERROR


def test_sigterm_ends_the_wait_for_a_job_whichever_connection_it_waits_on(warm_yard: Yard) -> None:
    told: list[float] = []

    def stop(worker: Worker) -> None:
        pool = worker.connection.connection_pool
        eventually(lambda: worker.get_state() == WorkerStatus.IDLE)
        held = pool.get_connection()
        running = warm_yard.queue.enqueue(jobs.sleep, 0.3)
        wait_for_status(running, JobStatus.STARTED)
        # What another thread gives back to the pool is what the worker waits on next.
        pool.release(held)
        eventually(lambda: warm_yard.queue.finished_job_registry.count == 1)
        warm_yard.wait_until_a_worker_waits()
        told.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    warm_yard.serve(stop)
    # The wait itself would last some minutes.
    assert time.monotonic() - told[0] < scaled(60)


def test_a_job_costs_less_than_half_of_the_round_trips(redis_url: str) -> None:
    reads = {}
    for worker_class in (Worker, WarmWorker):
        yard = Yard(redis_url, worker_class)
        for _ in range(40):
            yard.queue.enqueue(jobs.add, 1, 1)
        before = yard.connection.info("stats")["total_reads_processed"]
        yard.burst()
        reads[worker_class] = yard.connection.info("stats")["total_reads_processed"] - before
        assert yard.queue.finished_job_registry.count == 40
        yard.connection.flushall()
        yard.connection.close()
    assert reads[WarmWorker] < reads[Worker] / 2, reads
