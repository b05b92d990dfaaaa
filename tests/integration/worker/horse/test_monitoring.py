"""Whoever looks after a job hears that its process died, whatever Redis knows of the job by then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rq.utils import as_text

from tests.harness.eventually import eventually
from tests.harness.workers import WorkerBench


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[WorkerBench]:
    with WorkerBench(redis_url, tmp_path, jobs="telling_worker") as made:
        made.rq_worker(worker_class="tests.jobs.telling_worker.TellingWorker")
        yield made


@pytest.mark.parametrize("first", ["nothing", "deleted", "finished elsewhere", "flushed"])
def test_a_horses_death_is_told_once_whatever_redis_knows_of_its_job(bench: WorkerBench, first: str) -> None:
    def told() -> list[str]:
        return [as_text(line) for line in bench.connection.lrange("deaths", 0, -1)]

    job = bench.enqueue("die", first)
    assert eventually(told) == [f"{job.id} killed"]
    after = bench.enqueue("die", "nothing")
    assert eventually(told, lambda deaths: len(deaths) > 1) == [f"{job.id} killed", f"{after.id} killed"]
