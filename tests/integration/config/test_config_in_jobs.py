"""What jobs see of the configuration in a real warm worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rq.job import Job

from emberq.store.admin.changes import change_settings
from emberq.store.services import Services
from tests.harness.eventually import eventually
from tests.harness.workers import WorkerBench


def put(services: Services, key: str, value: Any) -> int:
    with services.database.system_transaction() as connection:
        return change_settings(connection, services.sealer, {key: value}, changed_by="test")


@pytest.fixture
def bench(services: Services, tmp_path: Path) -> Iterator[WorkerBench]:
    with WorkerBench(services.redis_url, tmp_path, jobs="config") as made:
        made.environment |= {
            "CONFIG_JOBS_DATA": str(services.data_dir),
            "CONFIG_JOBS_DATABASE": services.database.url,
            "CONFIG_JOBS_REDIS": services.redis_url,
        }
        yield made


def results(*jobs: Job) -> list[list[int]]:
    answers = [job.return_value() for job in jobs]
    assert None not in answers
    return answers  # type: ignore[return-value]


def test_a_change_in_mid_job_is_for_the_next_job(
    services: Services, bench: WorkerBench, tmp_path: Path
) -> None:
    started, changed = tmp_path / "started", tmp_path / "changed"
    first = bench.enqueue("look_around_a_change", str(started), str(changed))
    second = bench.enqueue("look", 3)
    worker = bench.rq_worker("--burst")
    eventually(started.exists, told=bench.log)
    assert put(services, "rag_top_k", 7) == 1
    changed.touch()
    assert worker.wait() == 0, bench.log()
    during, after = results(first, second)
    assert during[:3] == [0, 0, 1]
    assert after[0] == 1
    assert during[3] == after[-1]


def test_a_horse_builds_each_version_once_and_none_that_its_preloader_had(
    services: Services, bench: WorkerBench
) -> None:
    put(services, "rag_top_k", 7)
    jobs = [bench.enqueue("look", 5) for _ in range(10)]
    put_later = [bench.enqueue("look", 5, 1) for _ in range(10)]
    bench.burst()
    answers = results(*jobs, *put_later)
    assert len({tuple(answer) for answer in answers}) == 1
    [version, builds, _] = answers[0]
    assert (version, builds) == (1, 1)


def test_a_horse_without_notifications_is_right_at_each_claim(services: Services, bench: WorkerBench) -> None:
    for value in (7, 8, 9):
        put(services, "rag_top_k", value)
    jobs: list[Job] = [bench.enqueue("look", 5, version) for version in (1, 1, 2, 3, 3)]
    bench.burst()
    answers = results(*jobs)
    assert [answer[0] for answer in answers] == [1, 1, 2, 3, 3]
    # The preloader built version 3; each claim of another one built it, once.
    assert [answer[1] for answer in answers] == [2, 2, 3, 4, 4]
