"""Counts of many processes, kept over their deaths and over a death in the middle of adding them up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from emberq.system.file_lock import locked_file
from emberq.telemetry.exposition import absorb_dead, collect_host

COUNT = """
import sys
from pathlib import Path
from emberq.telemetry import metrics
metrics.enable(Path(sys.argv[1]))
metrics.count_rq_job(status="finished", error_code="", seconds=0.3)
metrics.set_horse_memory(private_bytes=1000)
"""


def run(code: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(directory)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Directories with the files of one dead process each; starting those takes most of the time."""
    made = [tmp_path_factory.mktemp("dead") for _ in range(4)]
    for directory in made:
        run(COUNT, directory)
    return made


def sums(directory: Path) -> dict[str, float]:
    """Return the counters and histogram counts as a scrape shows them."""
    return {
        sample.name + str(sample.labels): sample.value
        for family in collect_host(directory)
        if family.type != "gauge"
        for sample in family.samples
    }


def gauges(directory: Path) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in collect_host(directory)
        if family.type == "gauge"
        for sample in family.samples
    }


JOBS = "emberq_jobs_total{'error_code': '', 'state': 'completed'}"


def test_the_dead_go_on_counting_and_their_gauges_go(tmp_path: Path, dead: list[Path]) -> None:
    for one in dead[:3]:
        shutil.copytree(one, tmp_path, dirs_exist_ok=True)
    assert len(list(tmp_path.glob("*.db"))) == 3 * 4
    before = sums(tmp_path)
    assert before[JOBS] == 3
    assert gauges(tmp_path).get("emberq_worker_private_memory_bytes", 0) == 0
    assert absorb_dead(tmp_path) == 12
    assert sums(tmp_path) == before
    assert sorted(file.name for file in tmp_path.glob("*.db")) == ["counter_0.db", "histogram_0.db"]
    shutil.copytree(dead[3], tmp_path, dirs_exist_ok=True)
    absorb_dead(tmp_path)
    assert sums(tmp_path)[JOBS] == 4


@pytest.mark.slow
def test_hundreds_of_forked_children_leave_two_files_and_the_right_sums(tmp_path: Path) -> None:
    run(
        """
        import os, sys
        from pathlib import Path
        from emberq.telemetry import exposition, metrics
        metrics.enable(Path(sys.argv[1]))
        metrics.count_rq_job(status="finished", error_code="", seconds=0.3)
        most = 0
        for number in range(400):
            pid = os.fork()
            if pid == 0:
                metrics.open_own_files()
                metrics.count_rq_job(status="finished", error_code="", seconds=0.3)
                os._exit(0)
            os.waitpid(pid, 0)
            if number % 20 == 0:
                exposition.absorb_dead()
            most = max(most, len(list(Path(sys.argv[1]).glob("*.db"))))
        assert most <= 2 + 4 + 20 * 4, most
        """,
        tmp_path,
    )
    absorb_dead(tmp_path)
    assert len(list(tmp_path.glob("*.db"))) == 2
    assert sums(tmp_path)[JOBS] == 401
    assert sums(tmp_path)["emberq_job_duration_seconds_count{}"] == 401


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", range(12))
def test_a_death_at_any_step_of_adding_up_changes_no_sum(
    tmp_path: Path, dead: list[Path], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dead[0], tmp_path, dirs_exist_ok=True)
    absorb_dead(tmp_path)
    for one in dead[1:3]:
        shutil.copytree(one, tmp_path, dirs_exist_ok=True)
    before = sums(tmp_path)
    steps = 0

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object, **kwargs: object) -> object:
            nonlocal steps
            if steps == step:
                raise Killed
            steps += 1
            return real(*args, **kwargs)

        return act

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", dying(Path.write_text))
        patched.setattr(Path, "replace", dying(Path.replace))
        patched.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(Killed):
            absorb_dead(tmp_path)
    assert sums(tmp_path) == before
    absorb_dead(tmp_path)
    assert sums(tmp_path) == before
    shutil.copytree(dead[3], tmp_path, dirs_exist_ok=True)
    absorb_dead(tmp_path)
    assert sums(tmp_path)[JOBS] == before[JOBS] + 1
    assert len(list(tmp_path.glob("*.db"))) == 2


def test_files_of_the_living_are_left_alone(tmp_path: Path) -> None:
    book = MmapedDict(str(tmp_path / f"counter_{os.getpid()}.db"))  # type: ignore[no-untyped-call]
    book.write_value('["m", "m_total", {}, "help"]', 7.0, 0.0)  # type: ignore[no-untyped-call]
    book.close()  # type: ignore[no-untyped-call]
    assert absorb_dead(tmp_path) == 0
    assert sums(tmp_path) == {"m_total{}": 7.0}


def test_a_file_that_was_only_opened_does_no_harm(tmp_path: Path) -> None:
    run(COUNT, tmp_path)
    (tmp_path / f"counter_{os.getpid()}.db").touch()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"histogram_{dead.pid}.db").touch()
    absorb_dead(tmp_path)
    assert sums(tmp_path)[JOBS] == 1


def test_only_one_adds_up_at_a_time(tmp_path: Path) -> None:
    run(COUNT, tmp_path)
    with locked_file(tmp_path / ".lock", wait_seconds=0) as is_locked:
        assert is_locked
        assert absorb_dead(tmp_path) == 0
    assert absorb_dead(tmp_path) == 4
