"""Commands, signals and time-outs: the same with both worker classes."""

from __future__ import annotations

import os
import signal

import pytest
from rq import Callback, Retry, Worker
from rq.command import send_kill_horse_command, send_shutdown_command
from rq.job import JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.suspension import resume, suspend

from tests.harness.eventually import eventually
from tests.harness.workers import stop_job, wait_for_status
from tests.integration.worker.drop_in.yard import Yard, exc_string
from tests.jobs import drop_in as jobs

#: RQ's own worker forks while its pub/sub thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_stopped_job_ends_and_the_worker_goes_on(yard: Yard) -> None:
    running = yard.queue.enqueue(jobs.sleep, 600, on_stopped=Callback(jobs.on_stopped), retry=Retry(max=3))
    after = yard.queue.enqueue(jobs.add, 1, 1)

    def stop(worker: Worker) -> None:
        wait_for_status(running, JobStatus.STARTED)
        eventually(lambda: worker.horse_pid)
        stop_job(running)

    yard.serve(stop, max_jobs=2)
    assert running.get_status() == JobStatus.STOPPED
    assert yard.callbacks() == ["stopped"]
    assert "stopped by user" in exc_string(running)
    assert after.return_value() == 2


def test_a_killed_horse_fails_its_job_and_calls_the_handler(yard: Yard) -> None:
    calls: list[tuple[str, int]] = []
    running = yard.queue.enqueue(jobs.sleep, 600)
    after = yard.queue.enqueue(jobs.add, 1, 1)

    def kill(worker: Worker) -> None:
        eventually(lambda: running.get_status(refresh=True) == JobStatus.STARTED and worker.horse_pid)
        send_kill_horse_command(yard.connection, worker.name)

    worker = yard.worker(
        work_horse_killed_handler=lambda job, _pid, status, _usage: calls.append((job.id, status))
    )
    yard.serve(kill, worker=worker, max_jobs=2)
    assert running.get_status() == JobStatus.FAILED
    assert "Work-horse terminated unexpectedly" in exc_string(running)
    assert calls == [(running.id, signal.SIGKILL)]
    assert after.return_value() == 2


def test_a_kill_command_to_an_idle_worker_does_nothing(yard: Yard) -> None:
    def act(worker: Worker) -> None:
        eventually(lambda: worker.get_state() == "idle")
        send_kill_horse_command(yard.connection, worker.name)
        worker.kill_horse()
        send_shutdown_command(yard.connection, worker.name)

    if yard.worker_class is Worker:
        pytest.skip("rq.Worker.kill_horse without a horse kills its caller's process group")
    yard.serve(act)


def test_a_suspended_worker_takes_nothing_until_it_is_resumed(yard: Yard) -> None:
    job = yard.queue.enqueue(jobs.add, 1, 1)
    suspend(yard.connection)
    yard.burst()
    assert job.get_status() == JobStatus.QUEUED

    def go_on(worker: Worker) -> None:
        eventually(lambda: worker.get_state() == "suspended")
        resume(yard.connection)

    yard.serve(go_on, max_jobs=1)
    assert job.return_value() == 2


def test_sigterm_lets_the_running_job_finish_and_ends_an_idle_worker(yard: Yard) -> None:
    running, left = yard.queue.enqueue(jobs.wait_for, "end"), yard.queue.enqueue(jobs.add, 1, 1)

    def stop(serving: Worker) -> None:
        wait_for_status(running, JobStatus.STARTED)
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: serving.shutdown_requested_date)
        yard.connection.rpush("end", "now")

    worker = yard.serve(stop)
    assert running.return_value() == "now"
    assert left.get_status() == JobStatus.QUEUED
    assert worker.shutdown_requested_date is not None
    left.delete()

    def stop_idle(idle: Worker) -> None:
        eventually(lambda: idle.get_state() == "idle")
        yard.wait_until_a_worker_waits()
        os.kill(os.getpid(), signal.SIGTERM)

    yard.serve(stop_idle)


def test_a_second_sigterm_ends_worker_and_horse_at_once(yard: Yard) -> None:
    running = yard.queue.enqueue(jobs.sleep, 600)

    def stop(worker: Worker) -> None:
        eventually(lambda: running.get_status(refresh=True) == JobStatus.STARTED and worker.horse_pid)
        yard.stop_at_once(worker)

    with pytest.raises(SystemExit):
        yard.serve(stop)
    assert running.get_status() != JobStatus.FINISHED


def test_jobs_are_ended_after_their_time(yard: Yard) -> None:
    slow = yard.queue.enqueue(jobs.sleep, 30, job_timeout=1)
    unbounded = yard.queue.enqueue(jobs.sleep, 0.1, job_timeout=-1)
    yard.burst()
    assert slow.get_status() == JobStatus.FAILED
    assert "JobTimeoutException" in exc_string(slow)
    assert unbounded.return_value() == "slept"


def test_a_horse_that_ignores_its_time_is_killed_from_outside(yard: Yard) -> None:
    job = yard.queue.enqueue(jobs.sleep, 600, job_timeout=-1)
    worker = yard.worker(job_monitoring_interval=1)
    taken = worker.dequeue_job_and_maintain_ttl(None)
    assert taken is not None
    job, queue = taken
    execution = worker.prepare_execution(job)
    worker.fork_work_horse(job, queue)
    job.timeout = -59
    worker.monitor_work_horse(job, queue, execution)
    assert job.get_status(refresh=True) == JobStatus.FAILED
    assert worker.horse_pid == 0


def test_an_abandoned_job_is_found_by_maintenance(yard: Yard) -> None:
    job = yard.queue.enqueue(jobs.add, 1, 1)
    yard.queue.pop_job_id()
    job.set_status(JobStatus.STARTED)
    registry = StartedJobRegistry(queue=yard.queue)
    yard.connection.zadd(registry.key, {f"{job.id}:execution": 1})
    yard.burst()
    assert job.get_status() == JobStatus.FAILED
    assert job in FailedJobRegistry(queue=yard.queue)
