"""Jobs that do not come on, or take too much: each is ended in its bound, and the next one runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from redis import Redis
from rq import Queue, Retry
from rq.job import Job

from tests.harness.paths import RQ, python_path

MIB = 1 << 20


class Yard:
    """One `rq worker -w emberq.WarmWorker` and its queue."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = Redis.from_url(url)
        self.queue = Queue("yard", connection=self.connection)
        self.worker: subprocess.Popen[str] | None = None

    def start(self, **policy: object) -> None:
        environment = {
            **os.environ,
            "EMBERQ_PRELOAD": "tests.jobs.warm",
            "PYTHONPATH": python_path(),
            **{f"EMBERQ_{name.upper()}": str(value) for name, value in policy.items()},
        }
        self.worker = subprocess.Popen(
            [RQ, "worker", "-w", "emberq.WarmWorker", "--url", self.url, "yard"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, *args: Any, seconds: float = 40, **options: Any) -> Job:
        job = self.queue.enqueue(f"tests.jobs.warm.{name}", args=args, **options)
        self.until(lambda: job.get_status() in ("finished", "failed"), seconds=seconds)
        return job

    def until(self, holds: Callable[[], bool], *, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> str:
        if self.worker is None:
            return ""
        self.worker.terminate()
        log, _ = self.worker.communicate(timeout=30)
        return log


@pytest.fixture
def yard(redis_url: str) -> Iterator[Yard]:
    made = Yard(redis_url)
    yield made
    made.stop()
    made.connection.close()


def reason(job: Job) -> str:
    result = job.latest_result()
    assert result is not None
    return result.exc_string or ""


@pytest.mark.parametrize("kind", ["hold_interpreter", "loop", "deadlock", "stop_itself"])
def test_a_job_that_does_not_come_on_is_ended_with_its_stacks_and_the_next_one_runs(
    yard: Yard, kind: str
) -> None:
    yard.start(stall_timeout=1)
    before: Any = yard.run("where").return_value()
    stuck = yard.run(kind)
    assert stuck.get_status() == "failed"
    assert "no progress" in reason(stuck)
    assert f"in {kind}" in reason(stuck)
    after: Any = yard.run("where").return_value()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_progress_keeps_a_long_job_alive(yard: Yard) -> None:
    yard.start(stall_timeout=1)
    assert yard.run("report_slowly", 8).return_value() == "done"


def test_a_job_may_have_a_stall_time_of_its_own(yard: Yard) -> None:
    yard.start()
    assert yard.run("sleep", 2).get_status() == "finished"
    stuck = yard.run("sleep", 60, meta={"emberq": {"stall_timeout": 0.5}})
    assert "no progress" in reason(stuck)


def test_a_stalled_job_keeps_its_retries(yard: Yard) -> None:
    yard.start(stall_timeout=0.5)
    stuck = yard.run("deadlock", retry=Retry(max=1))
    stuck.refresh()  # type: ignore[no-untyped-call]
    assert stuck.retries_left == 0


def test_a_fork_bomb_is_ended_with_all_it_forked(yard: Yard) -> None:
    yard.start(job_max_processes=16)
    before = len(psutil.pids())
    bomb = yard.run("fork_bomb", 2000)
    assert "more than 16 processes" in reason(bomb)
    yard.until(lambda: len(psutil.pids()) < before + 30)
    assert yard.run("where").get_status() == "finished"


def test_memory_beyond_the_limit_is_refused_to_the_job_alone(yard: Yard) -> None:
    yard.start(job_memory_limit=64 * MIB)
    before = yard.run("where").return_value()
    hog = yard.run("hog", 512 * MIB)
    assert "MemoryError" in reason(hog)
    assert yard.run("where").return_value() == before
    free = yard.run("hog", 128 * MIB, meta={"emberq": {"job_memory_limit": 0}})
    assert free.return_value() == 128 * MIB


def test_processor_time_beyond_the_limit_ends_the_horse(yard: Yard) -> None:
    yard.start(job_cpu_limit=1)
    assert "processor time" in reason(yard.run("burn", 60))
    assert yard.run("burn", 0.2).get_status() == "finished"


def test_a_limit_that_does_not_exist_fails_the_job_with_the_reason(yard: Yard) -> None:
    yard.start()
    job = yard.run("where", meta={"emberq": {"memory": 1}})
    assert "cannot set memory" in reason(job)


def test_the_second_sigterm_gives_the_job_back_to_its_queue(yard: Yard) -> None:
    yard.start()
    job = yard.queue.enqueue("tests.jobs.warm.sleep", 60, retry=Retry(max=3))
    waiting = yard.queue.enqueue("tests.jobs.warm.where")
    yard.until(lambda: job.get_status() == "started")
    assert yard.worker is not None
    yard.worker.terminate()
    time.sleep(1.2)
    yard.worker.send_signal(signal.SIGTERM)
    yard.worker.communicate(timeout=20)
    assert job.get_status() == "queued"
    assert yard.queue.job_ids == [job.id, waiting.id]
    job.refresh()  # type: ignore[no-untyped-call]
    assert job.retries_left == 3


def test_after_the_grace_a_running_job_goes_back_to_its_queue(yard: Yard) -> None:
    yard.start(shutdown_grace=0.5)
    job = yard.queue.enqueue("tests.jobs.warm.sleep", 60)
    yard.until(lambda: job.get_status() == "started")
    yard.stop()
    assert job.get_status() == "queued"
    assert yard.queue.job_ids == [job.id]
    yard.start()
    yard.queue.enqueue("tests.jobs.warm.where")
    yard.until(lambda: job.get_status() == "started")
    yard.worker.kill()  # type: ignore[union-attr]


def test_without_limits_one_horse_serves_on(yard: Yard) -> None:
    yard.start(horse_max_jobs=0, horse_max_memory_growth=0)
    horses = {str(yard.run("where").return_value()) for _ in range(15)}
    assert len(horses) == 1


def test_a_horse_is_replaced_after_its_jobs_without_loading_again(yard: Yard) -> None:
    yard.start(horse_max_jobs=3)
    answers: list[Any] = [yard.run("where").return_value() for _ in range(9)]
    assert [answers[0][0], answers[3][0], answers[6][0]] == [answers[2][0], answers[5][0], answers[8][0]]
    assert len({horse for horse, _ in answers}) == 3
    assert len({loader for _, loader in answers}) == 1


def test_a_horse_that_has_grown_is_replaced_without_loading_again(yard: Yard) -> None:
    yard.start(horse_max_jobs=0, horse_max_memory_growth=32 * MIB)
    before: list[Any] = [yard.run("where").return_value() for _ in range(12)]
    grown = yard.run("keep", 64 * MIB).return_value()
    assert {horse for horse, _ in before} == {grown}
    # A horse reads its memory once a second, so a short job more may run on it.
    after: list[list[int]] = []

    def is_replaced() -> bool:
        after.append(yard.run("where").return_value() or [])
        return after[-1][0] != grown

    yard.until(is_replaced, seconds=20)
    assert after[-1][1] == before[0][1]
