"""When a running job goes beyond its policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from emberq.worker.horse.watchdog import HorseDeath, Watchdog
from emberq.worker.job.policy import HorsePolicy
from tests.harness.clock import FakeClock
from tests.harness.preloader_peer import no_process


def watch(clock: FakeClock, **limits: float) -> Watchdog:
    return Watchdog(HorsePolicy(**limits), clock=clock)  # type: ignore[arg-type]


def test_without_limits_a_job_may_run_for_ever(clock: FakeClock) -> None:
    watchdog = watch(clock)
    clock.advance(1e9)
    assert watchdog.verdict(no_process()) is None
    assert watchdog.wait_seconds(10) == 10


def test_a_job_without_progress_is_stalled_after_its_time(clock: FakeClock) -> None:
    watchdog = watch(clock, stall_timeout=5)
    clock.advance(4.9)
    assert watchdog.verdict(no_process()) is None
    clock.advance(0.1)
    death = watchdog.verdict(no_process())
    assert death == HorseDeath("stalled", "The job made no progress for 5 s.")


def test_progress_begins_the_time_anew_and_its_stage_is_told(clock: FakeClock) -> None:
    watchdog = watch(clock, stall_timeout=5)
    for _ in range(10):
        clock.advance(4)
        watchdog.note_progress({"progress": 1, "total": 2, "stage": "embedding"})
        assert watchdog.verdict(no_process()) is None
    # A report without a stage is of the last one.
    watchdog.note_progress({"progress": 2, "total": 2, "stage": None})
    clock.advance(7)
    death = watchdog.verdict(no_process())
    assert death is not None
    assert death.message == "The job made no progress for 7 s in stage embedding."


def test_the_worker_wakes_up_when_the_job_would_be_stalled(clock: FakeClock) -> None:
    watchdog = watch(clock, stall_timeout=5)
    clock.advance(3)
    assert watchdog.wait_seconds(10) == 2
    assert watchdog.wait_seconds(1) == 1
    clock.advance(100)
    assert 0 < watchdog.wait_seconds(10) < 0.1


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three children of this process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first:
        made = [first, *(subprocess.Popen(["sleep", "600"]) for _ in range(2))]
        yield made
        for one in made:
            one.kill()
            one.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells a process's children")
def test_processes_are_counted_four_times_a_second(
    clock: FakeClock, children: list[subprocess.Popen[bytes]]
) -> None:
    watchdog = watch(clock, job_max_processes=3)
    assert watchdog.wait_seconds(10) <= 0.25
    assert watchdog.verdict(os.getpid()) is None
    clock.advance(0.25)
    death = watchdog.verdict(os.getpid())
    assert death == HorseDeath("process_limit", "The job had more than 3 processes.")
    clock.advance(0.1)
    assert watchdog.verdict(os.getpid()) is None


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (signal.SIGKILL, "killed", "The process that ran the job was ended by SIGKILL."),
        (signal.SIGXCPU, "cpu_limit", "The job used more processor time than allowed."),
        (3 << 8, "killed", "The process that ran the job ended with status 3."),
        (0, "killed", "The process that ran the job ended with status 0."),
    ],
)
def test_a_wait_status_tells_why_a_horse_ended(status: int, reason: str, message: str) -> None:
    assert HorseDeath.of_status(status) == HorseDeath(reason, message)
