"""Jobs that do not come on, or take too much: each is ended in its bound, and the next one runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rq import Retry
from rq.job import Job

from tests.harness.eventually import eventually, scaled
from tests.harness.process_table import running_in
from tests.harness.processes import RunningProgram
from tests.harness.workers import WorkerBench, wait_for_status, wait_for_stop_request

MIB = 1 << 20


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[WorkerBench]:
    with WorkerBench(redis_url, tmp_path, jobs="warm") as made:
        yield made


def start(bench: WorkerBench, **policy: object) -> RunningProgram:
    """Start a worker with settings of its own."""
    bench.environment |= {f"EMBERQ_{name.upper()}": str(value) for name, value in policy.items()}
    return bench.rq_worker()


def reason(job: Job) -> str:
    result = job.latest_result()
    assert result is not None
    return result.exc_string or ""


@pytest.mark.parametrize("kind", ["hold_interpreter", "loop", "deadlock", "stop_itself"])
def test_a_job_that_does_not_come_on_is_ended_with_its_stacks_and_the_next_one_runs(
    bench: WorkerBench, kind: str
) -> None:
    start(bench, stall_timeout=scaled(2))
    before: Any = bench.run("where").return_value()
    stuck = bench.run(kind)
    assert stuck.get_status() == "failed"
    assert "no progress" in reason(stuck)
    assert f"in {kind}" in reason(stuck)
    after: Any = bench.run("where").return_value()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_progress_keeps_a_long_job_alive(bench: WorkerBench) -> None:
    start(bench, stall_timeout=scaled(2))
    assert bench.run("report_slowly", 8 * 4).return_value() == "done"


def test_a_job_may_have_a_stall_time_of_its_own(bench: WorkerBench) -> None:
    start(bench)
    assert bench.run("sleep", 2).get_status() == "finished"
    stuck = bench.run("sleep", 60, meta={"emberq": {"stall_timeout": 0.5}})
    assert "no progress" in reason(stuck)


def test_a_stalled_job_keeps_its_retries(bench: WorkerBench) -> None:
    start(bench, stall_timeout=0.5)
    stuck = bench.run("deadlock", retry=Retry(max=1))
    stuck.refresh()  # type: ignore[no-untyped-call]
    assert stuck.retries_left == 0


def test_a_fork_bomb_is_ended_with_all_it_forked(bench: WorkerBench) -> None:
    worker = start(bench, job_max_processes=16)
    bomb = bench.run("fork_bomb", 2000)
    assert "more than 16 processes" in reason(bomb)
    eventually(
        lambda: set(running_in(bench.directory)),
        lambda running: running <= {worker.pid, *worker.family()},
    )
    assert bench.run("where").get_status() == "finished"


def test_memory_beyond_the_limit_is_refused_to_the_job_alone(bench: WorkerBench) -> None:
    start(bench, job_memory_limit=64 * MIB)
    before = bench.run("where").return_value()
    hog = bench.run("hog", 512 * MIB)
    assert "MemoryError" in reason(hog)
    assert bench.run("where").return_value() == before
    free = bench.run("hog", 128 * MIB, meta={"emberq": {"job_memory_limit": 0}})
    assert free.return_value() == 128 * MIB


def test_processor_time_beyond_the_limit_ends_the_horse(bench: WorkerBench) -> None:
    start(bench, job_cpu_limit=1)
    assert "processor time" in reason(bench.run("burn", 60))
    assert bench.run("burn", 0.2).get_status() == "finished"


def test_a_limit_that_does_not_exist_fails_the_job_with_the_reason(bench: WorkerBench) -> None:
    start(bench)
    job = bench.run("where", meta={"emberq": {"memory": 1}})
    assert "cannot set memory" in reason(job)


def test_the_second_sigterm_gives_the_job_back_to_its_queue(bench: WorkerBench) -> None:
    worker = start(bench)
    job = bench.enqueue("sleep", 600, retry=Retry(max=3))
    waiting = bench.enqueue("where")
    wait_for_status(job, "started", told=bench.log)
    worker.send(signal.SIGTERM)
    wait_for_stop_request(bench.connection)
    # RQ takes a second signal within a second for the first one's echo.
    time.sleep(1.1)
    worker.send(signal.SIGTERM)
    worker.wait()
    assert job.get_status() == "queued"
    assert bench.queue.job_ids == [job.id, waiting.id]
    job.refresh()  # type: ignore[no-untyped-call]
    assert job.retries_left == 3


def test_after_the_grace_a_running_job_goes_back_to_its_queue(bench: WorkerBench) -> None:
    worker = start(bench, shutdown_grace=0.5)
    job = bench.enqueue("sleep", 600)
    wait_for_status(job, "started", told=bench.log)
    worker.stop()
    assert job.get_status() == "queued"
    assert bench.queue.job_ids == [job.id]
    worker = start(bench)
    bench.enqueue("where")
    wait_for_status(job, "started", told=bench.log)
    worker.stop(signal.SIGKILL)


def test_without_limits_one_horse_serves_on(bench: WorkerBench) -> None:
    start(bench, horse_max_jobs=0, horse_max_memory_growth=0)
    horses = {str(bench.run("where").return_value()) for _ in range(15)}
    assert len(horses) == 1


def test_a_horse_is_replaced_after_its_jobs_without_loading_again(bench: WorkerBench) -> None:
    start(bench, horse_max_jobs=3)
    answers: list[Any] = [bench.run("where").return_value() for _ in range(9)]
    assert [answers[0][0], answers[3][0], answers[6][0]] == [answers[2][0], answers[5][0], answers[8][0]]
    assert len({horse for horse, _ in answers}) == 3
    assert len({loader for _, loader in answers}) == 1


def test_a_horse_that_has_grown_is_replaced_without_loading_again(bench: WorkerBench) -> None:
    start(bench, horse_max_jobs=0, horse_max_memory_growth=32 * MIB)
    before = [bench.answer("where") for _ in range(12)]
    grown = bench.answer("keep", 64 * MIB)
    assert {horse for horse, _ in before} == {grown}
    # A horse reads its memory once a second, so short jobs more may run on it.
    _, loader = eventually(lambda: bench.answer("where"), lambda answer: answer[0] != grown)
    assert loader == before[0][1]
