"""`examples/any-rq-job` as its README tells a reader to run it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.harness.eventually import eventually
from tests.harness.paths import EXAMPLES
from tests.harness.processes import RunningProgram, run_program

EXAMPLE = EXAMPLES / "any-rq-job"
BIN = Path(sys.executable).parent


@pytest.fixture
def environment(redis_url: str, models_dir: Path) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "EMBERQ_REDIS_URL": redis_url,
        "EMBERQ_PRELOAD": "resources",
    }


@pytest.fixture(
    params=[
        ("rq", "worker", "-w", "emberq.WarmWorker", "--url", "{url}", "my_queue"),
        ("emberq", "worker", "-n", "2", "--preload", "resources", "my_queue"),
    ],
    ids=["rq worker", "emberq worker"],
)
def worker(
    request: pytest.FixtureRequest, redis_url: str, environment: dict[str, str], tmp_path: Path
) -> Iterator[RunningProgram]:
    program, *arguments = request.param
    with RunningProgram(
        [BIN / program, *(word.format(url=redis_url) for word in arguments)],
        cwd=EXAMPLE,
        environment=environment,
        log=tmp_path / "log",
    ) as running:
        yield running
        assert running.stop() == 0, running.log


def test_six_jobs_are_answered_around_a_crash_with_one_load_of_the_model(
    worker: RunningProgram, environment: dict[str, str]
) -> None:
    done = run_program(sys.executable, "enqueue.py", cwd=EXAMPLE, environment=environment)
    assert done.returncode == 0, done.stderr
    answers = [line for line in done.stdout.splitlines() if "→" in line]
    assert [line.split("→")[1].split("  ")[0].strip() for line in answers] == [
        *["Refunds take three days.", "We open at nine.", "Parking is free."] * 2,
        "failed",
    ]
    assert re.search(r"6 jobs answered by [234] horses", done.stdout)


def test_the_worker_is_seen_from_outside_while_it_lives(worker: RunningProgram, redis_url: str) -> None:
    with Redis.from_url(redis_url) as connection:
        keys = eventually(lambda: list(connection.scan_iter("worker:heartbeat:*")), told=lambda: worker.log)
        assert all(0 < int(connection.ttl(key)) <= 60 for key in keys)
