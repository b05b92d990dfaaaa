"""`examples/any-rq-job` as its README tells a reader to run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis

from tests.harness.paths import EXAMPLES

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
) -> Iterator[subprocess.Popen[bytes]]:
    command: Sequence[str] = request.param
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / command[0]), *(word.format(url=redis_url) for word in command[1:])],
            cwd=EXAMPLE,
            env=environment,
            stdout=log,
            stderr=log,
        )
    yield process
    process.terminate()
    assert process.wait(timeout=30) == 0, (tmp_path / "log").read_text()


def test_six_jobs_are_answered_around_a_crash_with_one_load_of_the_model(
    worker: subprocess.Popen[bytes], environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "enqueue.py"],
        check=False,
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers = [line for line in done.stdout.splitlines() if "→" in line]
    assert [line.split("→")[1].split("  ")[0].strip() for line in answers] == [
        *["Refunds take three days.", "We open at nine.", "Parking is free."] * 2,
        "failed",
    ]
    assert re.search(r"6 jobs answered by [234] horses", done.stdout)


def test_the_worker_is_seen_from_outside_while_it_lives(
    worker: subprocess.Popen[bytes], redis_url: str
) -> None:
    connection = Redis.from_url(redis_url)
    deadline = time.monotonic() + 60
    while not (keys := list(connection.scan_iter("worker:heartbeat:*"))):
        assert time.monotonic() < deadline
        assert worker.poll() is None
        time.sleep(0.05)
    assert all(0 < int(connection.ttl(key)) <= 60 for key in keys)
    connection.close()
