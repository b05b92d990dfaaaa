"""Horses for resources that do not survive a fork: spawned, loaded once, warm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.harness.paths import RQ, python_path

WORKER = [RQ, "worker", "-w", "emberq.WarmWorker", "--serializer", "rq.serializers.JSONSerializer"]


class Bench:
    """A queue, and workers for it."""

    def __init__(self, url: str, notes: Path) -> None:
        self.url = url
        self.notes = notes
        self.connection = Redis.from_url(url)
        self.queue = Queue("spawned", connection=self.connection, serializer=JSONSerializer)
        self.environment = {
            **os.environ,
            "EMBERQ_PRELOAD": "tests.jobs.spawn",
            "SPAWN_JOBS_NOTES": str(notes),
            "PYTHONPATH": python_path(),
        }

    def enqueue(self, name: str, *args: Any) -> Job:
        return self.queue.enqueue(f"tests.jobs.spawn.{name}", args=args)

    def burst(self, *, code: int = 0) -> str:
        worker = subprocess.Popen(
            [*WORKER, "--url", self.url, "--burst", "spawned"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        log, _ = worker.communicate(timeout=90)
        assert worker.returncode == code, log
        return log

    def noted(self, what: str) -> list[int]:
        lines = self.notes.read_text().splitlines()
        return [int(line.removeprefix(f"{what} ")) for line in lines if line.startswith(f"{what} ")]


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(redis_url, tmp_path / "notes")
    yield made
    made.connection.close()


def test_twenty_jobs_run_in_one_horse_that_loaded_once_and_cleans_up_after_itself(bench: Bench) -> None:
    jobs = [bench.enqueue("compute", number) for number in range(20)]
    log = bench.burst()
    answers = [job.return_value() or [] for job in jobs]
    assert [answer[0] for answer in answers] == [number**2 for number in range(20)]
    [horse] = {answer[1] for answer in answers}
    # Its own vocabulary too: memory of the preloader is not shared with a fresh interpreter.
    assert {answer[2] for answer in answers} == {horse}
    assert bench.noted("engine") == [horse]
    assert bench.noted("closed") == [horse]
    # What does survive a fork is loaded in the preloader as ever, for whatever else it forks.
    preloader, own = bench.noted("vocabulary")
    assert own == horse != preloader
    assert "job_leaked" not in log


def test_a_killed_horse_is_replaced_by_one_that_loads_once_again(bench: Bench) -> None:
    before = [bench.enqueue("compute", number) for number in range(2)]
    killed = bench.enqueue("die")
    after = [bench.enqueue("compute", number) for number in range(5)]
    bench.burst()
    assert killed.get_status() == "failed"
    [first] = {(job.return_value() or [])[1] for job in before}
    [second] = {(job.return_value() or [])[1] for job in after}
    assert first != second
    assert bench.noted("engine") == [first, second]


def test_a_spawned_horse_stands_where_a_forked_one_would_and_gives_nothing_away(
    bench: Bench, redis_url: str
) -> None:
    user = "spawned"
    bench.connection.acl_setuser(
        user, enabled=True, passwords=["+hidden-word"], keys=["*"], channels=["*"], categories=["+@all"]
    )
    try:
        bench.url = redis_url.replace("://", f"://{user}:hidden-word@", 1)
        job = bench.enqueue("look")
        # The worker's own command line has the word; the horse's must not.
        bench.burst()
        seen = job.return_value() or {}
    finally:
        bench.connection.acl_deluser(user)
    assert seen["group"]
    assert "emberq.worker.horse.spawned" in seen["command"]
    assert "hidden-word" not in " ".join([*seen["command"], seen["title"]])
    assert seen["environment"] == []
    assert seen["parent"] in bench.noted("vocabulary")


def test_a_resource_that_fails_in_the_spawned_horse_stops_the_worker_with_the_reason(bench: Bench) -> None:
    bench.environment["SPAWN_JOBS_BROKEN"] = "1"
    log = bench.burst(code=1)
    assert "engine could not be loaded" in log
    assert "no card found" in log


def test_a_worker_that_cannot_be_rebuilt_is_refused_with_the_reason(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "own_worker.py"
    script.write_text(
        "import sys\n"
        "from redis import Redis\n"
        "from emberq import WarmWorker\n"
        "class OwnWorker(WarmWorker):\n"
        "    pass\n"
        "OwnWorker(['spawned'], connection=Redis.from_url(sys.argv[1])).work(burst=True)\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script), bench.url],
        env=bench.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 1
    assert "OwnWorker" in ran.stderr
    assert "__main__" in ran.stderr


def test_nothing_is_left_when_the_worker_is_killed(bench: Bench) -> None:
    job = bench.enqueue("compute", 3)
    worker = subprocess.Popen(
        [*WORKER, "--url", bench.url, "spawned"],
        env=bench.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while job.get_status(refresh=True) != "finished" and time.monotonic() < deadline:
        time.sleep(0.05)
    horse = (job.return_value(refresh=True) or [0, 0])[1]
    assert Path(f"/proc/{horse}").exists()
    worker.kill()
    worker.wait(timeout=20)
    while Path(f"/proc/{horse}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{horse}").exists()


def test_a_spawned_horse_counts_its_jobs(bench: Bench, tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    bench.environment["EMBERQ_METRICS_DIR"] = str(directory)
    bench.enqueue("compute", 2)
    bench.burst()
    [horse] = bench.noted("engine")
    assert b"emberq_jobs_total" in (directory / f"counter_{horse}.db").read_bytes()
