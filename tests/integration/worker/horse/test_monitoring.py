"""Whoever looks after a job hears that its process died, whatever Redis knows of the job by then."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from redis import Redis
from rq import Queue

from tests.harness.paths import RQ, python_path


@pytest.fixture
def connection(redis_url: str) -> Iterator[Redis]:
    worker = subprocess.Popen(
        [RQ, "worker", "-w", "tests.jobs.telling_worker.TellingWorker", "--url", redis_url, "yard"],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with Redis.from_url(redis_url) as made:
        yield made
    worker.terminate()
    worker.wait(timeout=30)


@pytest.mark.parametrize("first", ["nothing", "deleted", "finished elsewhere", "flushed"])
def test_a_horses_death_is_told_once_whatever_redis_knows_of_its_job(connection: Redis, first: str) -> None:
    job = Queue("yard", connection=connection).enqueue("tests.jobs.telling_worker.die", first)
    deadline = time.monotonic() + 40
    while not connection.llen("deaths"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    after = Queue("yard", connection=connection).enqueue("tests.jobs.telling_worker.die", "nothing")
    while connection.llen("deaths") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = connection.lrange("deaths", 0, -1)
    assert told == [f"{one.id} killed".encode() for one in (job, after)]
