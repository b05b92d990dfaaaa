"""What the supervisor and the preloader do once so that no slot has to do it for itself."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from redis import Redis
from setproctitle import getproctitle
from sqlalchemy import func, select, text

from emberq import WarmWorker
from emberq.config.runtime import RuntimeSettings
from emberq.models.embedder import Embedder
from emberq.models.files import find_model
from emberq.pipeline.warmup import warm_up_document
from emberq.redis_pools import get_redis_pool
from emberq.store.schema.base import Base
from emberq.store.services import Services
from emberq.worker.supervisor.warmup import warm_up
from tests.harness.paths import EMBERQ
from tests.harness.processes import RunningProgram


def make_worker(url: str) -> WarmWorker:
    return WarmWorker(
        ["warm-up"],
        name="warm-up",
        connection=Redis(connection_pool=get_redis_pool("worker", url)),
        prepare_for_work=False,
    )


def calls(connection: Redis, command: str) -> int:
    return int(connection.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def test_a_warm_up_runs_jobs_and_leaves_nothing(redis_url: str) -> None:
    title, open_before = getproctitle(), len(psutil.Process().net_connections("all"))
    worker = make_worker(redis_url)
    with Redis.from_url(redis_url) as connection:
        before, keys_set = calls(connection, "hincrby"), calls(connection, "set")
        warm_up(worker)
        # Who looks for a worker's heartbeat finds none.
        assert calls(connection, "set") == keys_set
        # RQ counts every job that a worker has done.
        assert calls(connection, "hincrby") - before >= 10
        assert connection.keys("*") == []
    assert getproctitle() == title
    assert len(psutil.Process().net_connections("all")) <= open_before


def test_without_redis_there_is_no_warm_up() -> None:
    warm_up(make_worker("redis://127.0.0.1:1/0"))


def test_workers_are_forked_after_a_warm_up(redis_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "EMBERQ_REDIS_URL": redis_url, "EMBERQ_DATA_DIR": str(tmp_path)}
    with Redis.from_url(redis_url) as connection:
        before = calls(connection, "hincrby")
        command = [EMBERQ, "worker", "-n", "1", "others"]
        with RunningProgram(command, environment=environment, log=tmp_path / "log") as worker:
            worker.wait_for_print("workers are ready")
            warmed_up = calls(connection, "hincrby") - before
        assert warmed_up >= 10


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(find_model())


def test_a_warm_up_document_changes_nothing(services: Services, embedder: Embedder) -> None:
    tokens = embedder.tokens_embedded
    warm_up_document(services, embedder, RuntimeSettings(), runs=2)
    with services.database.system_transaction() as connection:
        for table in Base.metadata.sorted_tables:
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0, table.name
        assert connection.execute(text("SELECT is_called FROM fence_seq")).scalar() is False
    assert embedder.tokens_embedded == tokens
