"""WarmWorker as RQ's own command line starts it: one load, one horse, disposable."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue, Retry
from rq.command import send_stop_job_command
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.harness import c_heap
from tests.harness.paths import RQ, python_path
from tests.harness.process_table import alive, family_of


class Bench:
    """A queue and the environment in which workers for it start."""

    def __init__(self, url: str, loads: Path) -> None:
        self.url = url
        self.loads = loads
        self.connection = Redis.from_url(url)
        self.queue = Queue("warm", connection=self.connection, serializer=JSONSerializer)
        self.environment = {
            **os.environ,
            "EMBERQ_PRELOAD": "tests.jobs.warm",
            "WARM_JOBS_LOADS": str(loads),
            "PYTHONPATH": python_path(),
        }

    def enqueue(self, name: str, *args: Any, **options: Any) -> Job:
        return self.queue.enqueue(f"tests.jobs.warm.{name}", args=args, **options)

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [RQ, "worker", "-w", "emberq.WarmWorker", "--url", self.url]
        serializer = ["--serializer", "rq.serializers.JSONSerializer"]
        return subprocess.Popen(
            [*command, *serializer, *options, "warm"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def burst(self) -> str:
        worker = self.start("--burst")
        log, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, log
        return log

    def wait(self, job: Job, *states: str, seconds: float = 20) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (state := job.get_status(refresh=True)) in states:
                return str(state.value)
            time.sleep(0.02)
        pytest.fail(f"the job is {job.get_status()}, not {states}")


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(redis_url, tmp_path / "loads")
    yield made
    made.connection.close()


def test_fifty_jobs_run_in_one_horse_that_loaded_once(bench: Bench) -> None:
    jobs = [bench.enqueue("where") for _ in range(50)]
    bench.burst()
    answers = {tuple(job.return_value() or ()) for job in jobs}
    assert len(answers) == 1
    [(horse, loader)] = answers
    assert horse != loader
    assert bench.loads.read_text().split() == [str(loader)]


def test_fifty_jobs_leave_descriptors_and_threads_as_they_were(bench: Bench) -> None:
    jobs = [bench.enqueue("counts") for _ in range(50)]
    bench.burst()
    assert jobs[1].return_value() == jobs[49].return_value()


@pytest.mark.skipif(not c_heap.IS_TOLD, reason="only glibc tells what is in use")
def test_hundreds_of_jobs_leave_the_heap_as_it_was(bench: Bench) -> None:
    # Each job has an id of its own, which is told in an environment variable.
    jobs = [bench.enqueue("heap") for _ in range(600)]
    bench.burst()
    before, after = jobs[99].return_value(), jobs[-1].return_value()
    assert before is not None
    assert after is not None
    # Kept, 500 ids would take 48,000.
    assert after - before < 20_000


def test_a_killed_horse_is_replaced_and_the_model_not_loaded_again(bench: Bench) -> None:
    before, killed, after = bench.enqueue("where"), bench.enqueue("die"), bench.enqueue("where")
    bench.burst()
    assert killed.get_status() == "failed"
    first, second = before.return_value(), after.return_value()
    assert first is not None
    assert second is not None
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert len(bench.loads.read_text().split()) == 1


def test_a_killed_job_is_retried_as_rq_promises(bench: Bench) -> None:
    job = bench.enqueue("die", retry=Retry(max=2))
    bench.burst()
    assert job.get_status() == "failed"
    job.refresh()  # type: ignore[no-untyped-call]
    assert job.retries_left == 0


def test_an_exception_fails_the_job_and_keeps_the_horse(bench: Bench) -> None:
    before, failing, after = bench.enqueue("where"), bench.enqueue("raise_error"), bench.enqueue("where")
    bench.burst()
    result = failing.latest_result()
    assert failing.get_status() == "failed"
    assert result is not None
    assert "as expected" in (result.exc_string or "")
    assert before.return_value() == after.return_value()


def test_a_job_over_its_time_fails_and_the_next_one_runs(bench: Bench) -> None:
    slow = bench.enqueue("sleep", 30, job_timeout=1)
    after = bench.enqueue("where")
    bench.burst()
    assert slow.get_status() == "failed"
    assert after.get_status() == "finished"


def test_what_a_job_changed_is_put_back(bench: Bench, tmp_path: Path) -> None:
    fresh = bench.enqueue("look_around")
    bench.enqueue("change_everything", str(tmp_path))
    after = bench.enqueue("look_around")
    bench.burst()
    assert after.return_value() == fresh.return_value()


@pytest.mark.parametrize("kind", ["socket", "thread"])
def test_a_leak_is_logged_and_ends_the_horse(bench: Bench, kind: str) -> None:
    leaking, after = bench.enqueue("leak", kind), bench.enqueue("where")
    log = bench.burst()
    answer = after.return_value()
    assert answer is not None
    assert leaking.return_value() != answer[0]
    assert "job_leaked" in log


def test_what_the_scope_opened_is_closed(bench: Bench, tmp_path: Path) -> None:
    jobs = [bench.enqueue("scoped", str(tmp_path / "file")) for _ in range(3)]
    log = bench.burst()
    assert len({job.return_value() for job in jobs}) == 1
    assert "job_leaked" not in log


def test_the_heartbeat_key_lives_while_the_worker_does(bench: Bench) -> None:
    worker = bench.start("--name", "beating")
    try:
        job = bench.enqueue("sleep", 0.2)
        bench.wait(job, "finished")
        beaten = int(bench.connection.get("worker:heartbeat:beating") or 0)
        assert abs(time.time() - beaten) < 30
        assert 0 < bench.connection.ttl("worker:heartbeat:beating") <= 60
    finally:
        worker.terminate()
        worker.communicate(timeout=20)
    assert bench.connection.get("worker:heartbeat:beating") is None


def test_a_stop_command_ends_the_job_and_the_worker_goes_on(bench: Bench) -> None:
    worker = bench.start()
    try:
        job = bench.enqueue("sleep", 60)
        bench.wait(job, "started")
        time.sleep(0.3)
        send_stop_job_command(bench.connection, job.id, serializer=JSONSerializer)
        assert bench.wait(job, "stopped", "failed") == "stopped"
        assert bench.wait(bench.enqueue("where"), "finished") == "finished"
    finally:
        worker.terminate()
        worker.communicate(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_takes_its_preloader_and_horse_with_it(bench: Bench, number: signal.Signals) -> None:
    worker = bench.start()
    bench.wait(bench.enqueue("where"), "finished")
    family = family_of(worker.pid)
    assert len(family) >= 2
    worker.send_signal(number)
    worker.communicate(timeout=20)
    deadline = time.monotonic() + 5
    while alive(family) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(family) == []


def test_a_resource_that_fails_to_load_stops_the_worker_with_the_reason(bench: Bench) -> None:
    bench.environment["EMBERQ_PRELOAD"] = "no_such_module_here"
    worker = bench.start("--burst")
    log, _ = worker.communicate(timeout=30)
    assert worker.returncode != 0
    assert "no_such_module_here" in log
