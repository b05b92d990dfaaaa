"""What jobs leave behind in real warm workers, and what is done about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.harness.paths import python_path

WORKER = [str(Path(sys.executable).with_name("rq")), "worker", "-w", "emberq.WarmWorker", "--burst"]


class Bench:
    """A queue, and one burst of a worker for it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.notes = folder / "notes"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.connection = Redis.from_url(url)
        self.queue = Queue("leaving", connection=self.connection, serializer=JSONSerializer)
        self.environment = {
            **os.environ,
            "EMBERQ_PRELOAD": "tests.jobs.leaving",
            "LEAVING_JOBS_NOTES": str(self.notes),
            "LEAVING_JOBS_REDIS": url,
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": python_path(),
        }

    def enqueue(self, name: str, *args: Any) -> Job:
        return self.queue.enqueue(f"tests.jobs.leaving.{name}", args=args)

    def burst(self) -> str:
        ran = subprocess.run(
            [*WORKER, "--url", self.url, "--serializer", "rq.serializers.JSONSerializer", "leaving"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        log = ran.stdout + ran.stderr
        assert ran.returncode == 0, log
        return log

    def noted(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.notes.read_text().splitlines()]

    def pids(self, what: str) -> list[int]:
        lines = [line.rpartition(" ") for line in self.notes.read_text().splitlines()]
        return [int(pid) for noted, _, pid in lines if noted == what]


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(redis_url, tmp_path)
    yield made
    made.connection.close()


@pytest.mark.parametrize(
    ("kind", "counted"), [("child", "children=1"), ("forked", "children=1"), ("file", "temporary_files=1")]
)
def test_what_can_be_cleaned_is_counted_and_cleaned_and_the_horse_stays(
    bench: Bench, kind: str, counted: str
) -> None:
    leaving, after, where = bench.enqueue("leave", kind), bench.enqueue("look"), bench.enqueue("where")
    log = bench.burst()
    assert after.return_value() == [[], [], "none", []]
    assert leaving.return_value() == (where.return_value() or [0])[0]
    [line] = [line for line in log.splitlines() if "job_leaked" in line]
    assert counted in line
    assert "ends_horse=False" in line
    assert leaving.id in line


def test_context_variables_end_with_the_job(bench: Bench) -> None:
    jobs = [bench.enqueue("be", "cheerful"), bench.enqueue("be", "gloomy"), bench.enqueue("be", "calm")]
    bench.burst()
    assert [job.return_value() for job in jobs] == ["none", "none", "none"]


def test_the_collector_leaves_the_preloaded_pages_alone_and_no_thread_is_inherited(bench: Bench) -> None:
    job = bench.enqueue("frozen")
    log = bench.burst()
    frozen, threads = job.return_value() or [0, 0]
    assert frozen > 10_000
    assert threads == 1
    assert "preloader_has_threads" not in log


def test_generators_are_cleaned_up_where_they_were_loaded_and_connections_in_their_horse(
    bench: Bench,
) -> None:
    jobs = [bench.enqueue("use_everything") for _ in range(5)]
    where = bench.enqueue("where")
    log = bench.burst()
    answers = {tuple(job.return_value() or ()) for job in jobs}
    horse, preloader = where.return_value() or [0, 0]
    [(worked, _)] = answers
    assert worked == horse != preloader
    assert "job_leaked" not in log
    assert bench.pids("loaded") == bench.pids("closed") == [preloader]
    for ours in ("opened", "hung up", "lazy loaded", "lazy closed"):
        assert bench.pids(ours) == [horse], ours
    noted = bench.noted()
    assert noted.index("hung up") < noted.index("lazy closed") < noted.index("closed")


def test_what_a_killed_horse_left_in_its_temporary_directory_is_deleted(bench: Bench) -> None:
    killed, after = bench.enqueue("fill_and_die"), bench.enqueue("look")
    bench.burst()
    assert killed.get_status() == "failed"
    assert after.return_value() == [[], [], "none", []]
    [directory] = [Path(line.split()[1]) for line in bench.noted() if line.startswith("temporary")]
    assert bench.temporary in directory.parents
    assert not directory.exists()
    # Nor does anything stay when the worker has ended.
    assert list(bench.temporary.glob("emberq-jobs-*")) == []
