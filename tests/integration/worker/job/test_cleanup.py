"""What jobs leave behind in real warm workers, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.workers import WorkerBench


class CleanupBench(WorkerBench):
    """A bench whose jobs write notes, and leave things in a temporary directory of its own."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(url, directory, jobs="leaving")
        self.notes = directory / "notes"
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.environment |= {
            "LEAVING_JOBS_NOTES": str(self.notes),
            "LEAVING_JOBS_REDIS": url,
            "TMPDIR": str(self.temporary),
        }

    def leaks(self, log: str) -> list[dict[str, Any]]:
        """Return the records of jobs that left something."""
        records = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
        return [one for one in records if one["event"] == "job_leaked"]

    def noted(self) -> list[str]:
        """Return the notes, in order."""
        return [line.rpartition(" ")[0] for line in self.notes.read_text().splitlines()]

    def pids(self, what: str) -> list[int]:
        """Return the processes that made a note."""
        lines = [line.rpartition(" ") for line in self.notes.read_text().splitlines()]
        return [int(pid) for noted, _, pid in lines if noted == what]


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[CleanupBench]:
    with CleanupBench(redis_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "counted"), [("child", "children"), ("forked", "children"), ("file", "temporary_files")]
)
def test_what_can_be_cleaned_is_counted_and_cleaned_and_the_horse_stays(
    bench: CleanupBench, kind: str, counted: str
) -> None:
    leaving, after, where = bench.enqueue("leave", kind), bench.enqueue("look"), bench.enqueue("where")
    log = bench.burst()
    assert after.return_value() == [[], [], "none", []]
    assert leaving.return_value() == (where.return_value() or [0])[0]
    [leak] = bench.leaks(log)
    assert leak[counted] == 1
    assert leak["ends_horse"] is False
    assert leaving.id in leak.values()


def test_context_variables_end_with_the_job(bench: CleanupBench) -> None:
    jobs = [bench.enqueue("be", "cheerful"), bench.enqueue("be", "gloomy"), bench.enqueue("be", "calm")]
    bench.burst()
    assert [job.return_value() for job in jobs] == ["none", "none", "none"]


def test_the_collector_leaves_the_preloaded_pages_alone_and_no_thread_is_inherited(
    bench: CleanupBench,
) -> None:
    job = bench.enqueue("frozen")
    log = bench.burst()
    frozen, threads = job.return_value() or [0, 0]
    assert frozen > 10_000
    assert threads == 1
    assert "preloader_has_threads" not in log


def test_generators_are_cleaned_up_where_they_were_loaded_and_connections_in_their_horse(
    bench: CleanupBench,
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


def test_what_a_killed_horse_left_in_its_temporary_directory_is_deleted(bench: CleanupBench) -> None:
    killed, after = bench.enqueue("fill_and_die"), bench.enqueue("look")
    bench.burst()
    assert killed.get_status() == "failed"
    assert after.return_value() == [[], [], "none", []]
    [directory] = [Path(line.split()[1]) for line in bench.noted() if line.startswith("temporary")]
    assert bench.temporary in directory.parents
    assert not directory.exists()
    # Nor does anything stay when the worker has ended.
    assert list(bench.temporary.glob("emberq-jobs-*")) == []
