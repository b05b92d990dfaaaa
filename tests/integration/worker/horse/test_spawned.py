"""Horses for resources that do not survive a fork: spawned, loaded once, warm."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.eventually import eventually
from tests.harness.process_table import alive
from tests.harness.processes import run_program
from tests.harness.workers import WorkerBench, with_account


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[WorkerBench]:
    with WorkerBench(redis_url, tmp_path, jobs="spawn") as made:
        made.environment["SPAWN_JOBS_NOTES"] = str(tmp_path / "notes")
        yield made


def noted(bench: WorkerBench, what: str) -> list[int]:
    """Return the processes that noted something."""
    lines = (bench.directory / "notes").read_text().splitlines()
    return [int(line.removeprefix(f"{what} ")) for line in lines if line.startswith(f"{what} ")]


def test_twenty_jobs_run_in_one_horse_that_loaded_once_and_cleans_up_after_itself(bench: WorkerBench) -> None:
    jobs = [bench.enqueue("compute", number) for number in range(20)]
    log = bench.burst()
    answers = [job.return_value() or [] for job in jobs]
    assert [answer[0] for answer in answers] == [number**2 for number in range(20)]
    [horse] = {answer[1] for answer in answers}
    # Its own vocabulary too: memory of the preloader is not shared with a fresh interpreter.
    assert {answer[2] for answer in answers} == {horse}
    assert noted(bench, "engine") == [horse]
    assert noted(bench, "closed") == [horse]
    # What does survive a fork is loaded in the preloader as ever, for whatever else it forks.
    preloader, own = noted(bench, "vocabulary")
    assert own == horse != preloader
    assert "job_leaked" not in log


def test_a_killed_horse_is_replaced_by_one_that_loads_once_again(bench: WorkerBench) -> None:
    before = [bench.enqueue("compute", number) for number in range(2)]
    killed = bench.enqueue("die")
    after = [bench.enqueue("compute", number) for number in range(5)]
    bench.burst()
    assert killed.get_status() == "failed"
    [first] = {(job.return_value() or [])[1] for job in before}
    [second] = {(job.return_value() or [])[1] for job in after}
    assert first != second
    assert noted(bench, "engine") == [first, second]


def test_a_spawned_horse_stands_where_a_forked_one_would_and_gives_nothing_away(
    bench: WorkerBench, redis_url: str
) -> None:
    user = "spawned"
    bench.connection.acl_setuser(
        user, enabled=True, passwords=["+hidden-word"], keys=["*"], channels=["*"], categories=["+@all"]
    )
    try:
        bench.url = with_account(redis_url, user, "hidden-word")
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
    assert seen["parent"] in noted(bench, "vocabulary")


def test_a_resource_that_fails_in_the_spawned_horse_stops_the_worker_with_the_reason(
    bench: WorkerBench,
) -> None:
    bench.environment["SPAWN_JOBS_BROKEN"] = "1"
    log = bench.burst(code=1)
    assert "engine could not be loaded" in log
    assert "no card found" in log


def test_a_worker_that_cannot_be_rebuilt_is_refused_with_the_reason(
    bench: WorkerBench, tmp_path: Path
) -> None:
    script = tmp_path / "own_worker.py"
    script.write_text(
        "import sys\n"
        "from redis import Redis\n"
        "from emberq import WarmWorker\n"
        "class OwnWorker(WarmWorker):\n"
        "    pass\n"
        "OwnWorker(['bench'], connection=Redis.from_url(sys.argv[1])).work(burst=True)\n"
    )
    ran = run_program(sys.executable, script, bench.url, environment=bench.environment)
    assert ran.returncode == 1
    assert "OwnWorker" in ran.stderr
    assert "__main__" in ran.stderr


def test_nothing_is_left_when_the_worker_is_killed(bench: WorkerBench) -> None:
    worker = bench.rq_worker()
    _, horse, _ = bench.answer("compute", 3)
    assert alive([horse]) == [horse]
    worker.stop(signal.SIGKILL)
    eventually(lambda: not alive([horse]))


def test_a_spawned_horse_counts_its_jobs(bench: WorkerBench, tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    bench.environment["EMBERQ_METRICS_DIR"] = str(directory)
    bench.enqueue("compute", 2)
    bench.burst()
    [horse] = noted(bench, "engine")
    assert b"emberq_jobs_total" in (directory / f"counter_{horse}.db").read_bytes()
