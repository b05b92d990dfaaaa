"""What jobs see of the configuration in a real warm worker."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from emberq.store.admin.changes import set_setting
from emberq.store.services import Services
from tests.harness.paths import RQ, python_path


def put(services: Services, key: str, value: Any) -> int:
    with services.database.transaction() as connection:
        return set_setting(connection, services.sealer, key, value, changed_by="test")


@pytest.fixture
def queue(services: Services) -> Queue:
    return Queue("config", connection=services.redis(), serializer=JSONSerializer)


def start_worker(services: Services) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "EMBERQ_PRELOAD": "tests.jobs.config",
        "CONFIG_JOBS_DATA": str(services.data_dir),
        "CONFIG_JOBS_DATABASE": services.database.url,
        "CONFIG_JOBS_REDIS": services.redis_url,
        "PYTHONPATH": python_path(),
    }
    serializer = ["--serializer", "rq.serializers.JSONSerializer"]
    return subprocess.Popen(
        [
            RQ,
            "worker",
            "-w",
            "emberq.WarmWorker",
            "--url",
            services.redis_url,
            *serializer,
            "--burst",
            "config",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(worker: subprocess.Popen[str], *jobs: Job) -> list[list[int]]:
    log, _ = worker.communicate(timeout=90)
    assert worker.returncode == 0, log
    answers = [job.return_value() for job in jobs]
    assert None not in answers, log
    return answers  # type: ignore[return-value]


def test_a_change_in_mid_job_is_for_the_next_job(services: Services, queue: Queue, tmp_path: Path) -> None:
    started, changed = tmp_path / "started", tmp_path / "changed"
    first = queue.enqueue("tests.jobs.config.look_around_a_change", str(started), str(changed))
    second = queue.enqueue("tests.jobs.config.look", 3)
    worker = start_worker(services)
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert put(services, "rag_top_k", 7) == 1
    changed.touch()
    during, after = finish(worker, first, second)
    assert during[:3] == [0, 0, 1]
    assert after[0] == 1
    assert during[3] == after[-1]


def test_a_horse_builds_each_version_once_and_none_that_its_preloader_had(
    services: Services, queue: Queue
) -> None:
    put(services, "rag_top_k", 7)
    jobs = [queue.enqueue("tests.jobs.config.look", 5) for _ in range(10)]
    put_later = [queue.enqueue("tests.jobs.config.look", 5, 1) for _ in range(10)]
    answers = finish(start_worker(services), *jobs, *put_later)
    assert len({tuple(answer) for answer in answers}) == 1
    [version, builds, _] = answers[0]
    assert (version, builds) == (1, 1)


def test_a_horse_that_nobody_tells_is_right_at_each_claim(services: Services, queue: Queue) -> None:
    for value in (7, 8, 9):
        put(services, "rag_top_k", value)
    jobs: list[Job] = [queue.enqueue("tests.jobs.config.look", 5, version) for version in (1, 1, 2, 3, 3)]
    answers = finish(start_worker(services), *jobs)
    assert [answer[0] for answer in answers] == [1, 1, 2, 3, 3]
    # The preloader built version 3; each claim of another one built it, once.
    assert [answer[1] for answer in answers] == [2, 2, 3, 4, 4]
