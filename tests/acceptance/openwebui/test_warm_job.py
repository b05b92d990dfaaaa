"""The warm worker for Open WebUI's own pipeline, against the installed Open WebUI and real engines."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr
from redis import Redis
from rq.job import Job
from rq.queue import Queue
from sqlalchemy import Engine, create_engine, text

from emberq.config.environment import Environment
from emberq.embedded import Engines
from emberq.openwebui.enqueue import enqueue_file
from emberq.redis_pools import close_redis_pools
from emberq.store.admin.changes import change_settings
from emberq.store.services import configure_services
from tests.harness.eventually import eventually
from tests.harness.openwebui import EmbeddingServer, Peer, find_python, run_workers, worker_environment
from tests.harness.workers import ENDED, stop_job, wait_for_status

T = TypeVar("T")

PYTHON = find_python()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(PYTHON is None, reason="no environment with Open WebUI: `make test-openwebui`"),
]

#: A worker may use the settings that it has read for a second more.
SETTINGS_KEPT_SECONDS = 1.2
SEALING_KEY = "YyL5yq0Yk3wq6wX4r3oJ9pQm1uQ8n4bHcF2vT7sZx0E="


@dataclass(slots=True)
class Stage:
    """Running warm workers, Open WebUI's tables, and an embedding server."""

    python: str
    environment: dict[str, str]
    peer: Peer
    embeddings: EmbeddingServer
    queue: Queue
    redis_url: str
    vectors: Engine
    log: Path
    user: str

    def upload(self, *, paragraphs: int = 8) -> str:
        """Store a file that makes about one chunk per paragraph."""
        body = "\n\n".join(f"Paragraph {n} of {uuid.uuid4()}. " + "word " * 180 for n in range(paragraphs))
        return str(self.peer.upload(self.user, "report.txt", body))

    def chunks(self, collection: str) -> int:
        """Count the chunks of a collection."""
        statement = text("SELECT count(*) FROM document_chunk WHERE collection_name = :name")
        with self.vectors.connect() as connection:
            return int(connection.execute(statement, {"name": collection}).scalar_one())

    def data(self, file_id: str) -> dict[str, Any]:
        """Return the data of a file's row."""
        return dict(self.peer.row(file_id)["data"])

    def run(self, file_id: str, **arguments: Any) -> Job:
        """Process a file in a job and wait for its end."""
        return self.wait(enqueue_file(self.queue, file_id, **arguments))

    def chunks_made(self, file_id: str, **arguments: Any) -> int:
        """Process a file in a job and return its number of chunks."""
        answer = self.run(file_id, **arguments).return_value()
        assert answer is not None, self.data(file_id)
        assert answer["status"] == "completed"
        return int(answer["chunks"])

    def wait(self, job: Job) -> Job:
        """Wait for a job's end."""
        wait_for_status(job, *ENDED, told=self.log_end)
        return job

    def until(self, look: Callable[[], T]) -> T:
        """Wait until `look` returns something true, and return it."""
        return eventually(look, told=self.log_end)

    def log_end(self) -> str:
        """Return the end of the workers' log."""
        return self.log.read_text()[-4000:]

    def started(self, file_id: str) -> list[int]:
        """Return the pids of the horses that started with a file, in order."""
        lines = [line for line in self.log.read_text().splitlines() if "openwebui_file_started" in line]
        return [int(json.loads(line)["horse_pid"]) for line in lines if file_id in line]


def _database(engines: Engines, name: str, *, template: str = "template1") -> str:
    engine = create_engine(engines.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()
    return re.sub(r"/emberq(\?|$)", rf"/{name}\1", engines.database_url)


@pytest.fixture(scope="module")
def embeddings() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def stage(
    request: pytest.FixtureRequest,
    engines: Engines,
    template_database: str,
    embeddings: EmbeddingServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """Two warm workers; Open WebUI's own tables in PostgreSQL or in SQLite, vectors in pgvector."""
    assert PYTHON is not None
    tmp_path = tmp_path_factory.mktemp(f"openwebui-{request.param}")
    name = f"openwebui_{uuid.uuid4().hex[:8]}"
    url = _database(engines, name)
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    database_url = plain if request.param == "postgresql" else f"sqlite:///{tmp_path}/webui.db"
    settings_url = _database(engines, f"{name}_settings", template=template_database)
    environment = {
        **worker_environment(
            tmp_path, database_url=database_url, vectors_url=plain, embedding_url=embeddings.url
        ),
        "EMBERQ_DATABASE_URL": settings_url,
        "EMBERQ_SECRET_KEY": SEALING_KEY,
        "EMBERQ_OUTBOUND_ALLOW_PRIVATE": "127.0.0.1",
        "EMBERQ_DATA_DIR": str(tmp_path / "emberq"),
    }
    peer = Peer(PYTHON, environment)
    peer.seed()
    queue = Queue(f"files-{name}", connection=Redis.from_url(engines.redis_admin_url))
    vectors = create_engine(url)
    log = tmp_path / "worker.log"
    with run_workers(
        PYTHON, environment, redis_url=engines.redis_admin_url, queue=queue.name, slots=2, log=log
    ):
        yield Stage(
            PYTHON, environment, peer, embeddings, queue, engines.redis_admin_url, vectors, log, peer.user()
        )
    peer.close()
    vectors.dispose()
    queue.connection.close()


@pytest.fixture(autouse=True)
def _calm(embeddings: EmbeddingServer) -> None:
    embeddings.refuse = lambda _number: 0
    embeddings.delay_seconds = 0.0
    embeddings.requests.clear()


def test_a_file_is_processed_as_the_server_does_it(stage: Stage) -> None:
    file_id = stage.upload()
    made = stage.chunks_made(file_id)
    row = stage.peer.row(file_id)
    assert row["data"]["status"] == "completed"
    assert row["data"]["error"] is None
    assert "Paragraph 0" in row["data"]["content"]
    assert set(row["data"]) == {"status", "error", "content"}
    assert row["meta"]["collection_name"] == f"file-{file_id}"
    assert row["hash"]
    assert stage.chunks(f"file-{file_id}") == made > 0
    assert {key for key, _, _ in stage.embeddings.requests} == {"common-key"}


def test_a_horse_stays_for_the_next_file(stage: Stage) -> None:
    files = [stage.upload(paragraphs=3) for _ in range(8)]
    for file_id in files:
        assert stage.run(file_id).is_finished
    assert len({pid for file_id in files for pid in stage.started(file_id)}) <= 2
    assert "job_leaked" not in stage.log.read_text()


def test_nothing_is_lost_by_the_fork(stage: Stage) -> None:
    assert "preloader_has_threads" not in stage.log.read_text()
    assert "openwebui_not_warmed_up" not in stage.log.read_text()
    assert "openwebui_warmup_failed" not in stage.log.read_text()


def test_running_it_again_leaves_one_set_of_chunks(stage: Stage) -> None:
    file_id = stage.upload()
    count = stage.chunks_made(file_id)
    stage.peer.configure(rag__chunk_size=500)
    try:
        time.sleep(SETTINGS_KEPT_SECONDS)
        smaller = stage.chunks_made(file_id)
    finally:
        stage.peer.configure(rag__chunk_size=1000)
        time.sleep(SETTINGS_KEPT_SECONDS)
    assert smaller > count
    assert stage.chunks(f"file-{file_id}") == smaller


def test_a_file_is_added_to_its_knowledge_base_once(stage: Stage) -> None:
    file_id, knowledge_id = stage.upload(), stage.peer.base(stage.user)
    for _ in range(2):
        assert stage.run(file_id, knowledge_id=knowledge_id).is_finished
    assert stage.peer.linked(knowledge_id) == [file_id]
    assert stage.chunks(knowledge_id) == stage.chunks(f"file-{file_id}") > 0
    assert stage.data(file_id)["status"] == "completed"


def test_a_stranger_may_not_write_to_a_knowledge_base(stage: Stage) -> None:
    file_id, knowledge_id = stage.upload(), stage.peer.base(stage.peer.user())
    assert stage.run(file_id, knowledge_id=knowledge_id).is_failed
    data = stage.data(file_id)
    assert data["status"] == "failed"
    assert data["error"].startswith("The user may not write to the collection.")
    assert stage.chunks(knowledge_id) == 0


def test_a_changed_configuration_reaches_the_next_job(stage: Stage) -> None:
    stage.run(stage.upload(paragraphs=2))
    stage.peer.configure(rag__embedding_model="another-model")
    try:
        time.sleep(SETTINGS_KEPT_SECONDS)
        stage.embeddings.requests.clear()
        stage.run(stage.upload(paragraphs=2))
        assert {model for _, model, _ in stage.embeddings.requests} == {"another-model"}
    finally:
        stage.peer.configure(rag__embedding_model="the-common-model")
        time.sleep(SETTINGS_KEPT_SECONDS)


def test_a_busy_embedding_server_is_asked_again(stage: Stage) -> None:
    stage.embeddings.refuse = lambda number: (429, 503, 0)[number % 3]
    file_id = stage.upload(paragraphs=4)
    assert stage.run(file_id).is_finished
    assert len(stage.started(file_id)) == 1
    assert stage.data(file_id)["status"] == "completed"


def test_a_refused_key_is_told_at_once_and_not_shown(stage: Stage) -> None:
    stage.embeddings.refuse = lambda _number: 401
    file_id = stage.upload(paragraphs=1)
    job = stage.run(file_id)
    assert job.is_failed
    assert stage.data(file_id)["error"].startswith("The embedding server refused its key (HTTP 401).")
    assert len(stage.started(file_id)) == 1
    result = job.latest_result()
    assert result is not None
    assert "common-key" not in (result.exc_string or "") + stage.log.read_text()


def test_a_killed_horse_costs_an_attempt_and_leaves_no_duplicates(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 1.0
    file_id, knowledge_id = stage.upload(), stage.peer.base(stage.user)
    job = enqueue_file(stage.queue, file_id, knowledge_id=knowledge_id)
    os.kill(stage.until(lambda: stage.started(file_id))[0], signal.SIGKILL)
    assert stage.wait(job).is_finished
    assert len(stage.started(file_id)) == 2
    assert stage.peer.linked(knowledge_id) == [file_id]
    assert stage.chunks(knowledge_id) == stage.chunks(f"file-{file_id}") > 0


def test_a_file_that_ends_its_horses_ends_failed(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 2.0
    file_id = stage.upload(paragraphs=2)
    job = enqueue_file(stage.queue, file_id, max_attempts=2)
    for number in range(2):
        os.kill(stage.until(lambda: stage.started(file_id)[number:])[0], signal.SIGKILL)  # noqa: B023 - called at once
    assert stage.wait(job).is_failed
    data = stage.data(file_id)
    assert data["status"] == "failed"
    assert data["error"].startswith("Processing this file was tried 2 times and never came to an end.")
    assert "emberq_attempt" not in data


def test_a_stopped_job_ends_its_file(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 30.0
    file_id = stage.upload(paragraphs=2)
    job = enqueue_file(stage.queue, file_id)
    stage.until(lambda: stage.started(file_id))
    assert stop_job(job) == "stopped"
    stage.until(lambda: stage.data(file_id)["status"] == "failed")
    assert stage.data(file_id)["error"].startswith("The job was cancelled.")
    assert stage.chunks(f"file-{file_id}") == 0


def test_a_job_that_takes_too_long_says_so(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 4.0
    file_id = stage.upload(paragraphs=2)
    assert stage.run(file_id, timeout_seconds=1, max_attempts=1).is_failed
    assert stage.data(file_id)["error"].startswith("The job ran longer than job_timeout.")


def test_a_file_deleted_meanwhile_leaves_nothing(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 2.0
    file_id = stage.upload(paragraphs=2)
    job = enqueue_file(stage.queue, file_id)
    stage.until(lambda: stage.embeddings.requests)
    stage.peer.delete(file_id)
    assert stage.wait(job).is_failed
    assert stage.chunks(f"file-{file_id}") == 0
    result = job.latest_result()
    assert result is not None
    assert "deleted while it was processed" in str(result.exc_string)


def test_a_file_deleted_late_leaves_nothing_of_what_was_stored(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 1.0
    file_id, knowledge_id = stage.upload(paragraphs=2), stage.peer.base(stage.user)
    job = enqueue_file(stage.queue, file_id, knowledge_id=knowledge_id)
    stage.until(lambda: stage.chunks(f"file-{file_id}"))
    stage.peer.delete(file_id)
    assert stage.wait(job).is_failed
    assert stage.chunks(f"file-{file_id}") == stage.chunks(knowledge_id) == 0


def test_the_same_file_waits_once(stage: Stage) -> None:
    stage.embeddings.delay_seconds = 1.0
    file_id = stage.upload(paragraphs=1)
    first, second = (enqueue_file(stage.queue, file_id) for _ in range(2))
    assert first.id == second.id
    stage.wait(first)
    assert len(stage.started(file_id)) == 1
    stage.run(file_id)
    assert len(stage.started(file_id)) == 2


@pytest.fixture
def _tenant_of_its_own(stage: Stage) -> None:
    """Give the tenant `acme` an embedding server, a model and a key, sealed."""
    environment = Environment(
        data_dir=Path(stage.environment["EMBERQ_DATA_DIR"]), secret_key=SecretStr(SEALING_KEY)
    )
    services = configure_services(
        environment, database_url=stage.environment["EMBERQ_DATABASE_URL"], redis_url=stage.redis_url
    )
    with services.database.system_transaction() as connection:
        change_settings(
            connection,
            services.sealer,
            {
                "rag_embedding_api_base_url": stage.embeddings.url,
                "rag_embedding_engine": "openai",
                "rag_embedding_model": "the-model-of-acme",
                "rag_embedding_api_key": "the-key-of-acme",
            },
            tenant="acme",
            changed_by="test",
        )
    services.database.close()
    close_redis_pools()
    time.sleep(SETTINGS_KEPT_SECONDS)


@pytest.mark.usefixtures("_tenant_of_its_own")
def test_a_tenant_embeds_with_its_own_key_and_model(stage: Stage) -> None:
    file_id = stage.upload(paragraphs=3)
    job = stage.run(file_id, tenant="acme")
    assert job.is_finished
    assert {(key, model) for key, model, _ in stage.embeddings.requests} == {
        ("the-key-of-acme", "the-model-of-acme")
    }
    stage.run(stage.upload(paragraphs=1))
    assert stage.embeddings.requests[-1][:2] == ("common-key", "the-common-model")
    kept = json.dumps([str(stage.queue.connection.hgetall(job.key)), stage.log.read_text()])
    assert "the-key-of-acme" not in kept


def test_a_tenant_without_a_key_sends_nothing(stage: Stage) -> None:
    file_id = stage.upload(paragraphs=1)
    assert stage.run(file_id, tenant="keyless").is_failed
    assert stage.embeddings.requests == []
    assert stage.data(file_id)["error"].startswith("The tenant 'keyless' has no embedding key of its own")


def test_a_worker_with_local_chroma_is_refused_with_the_reason(stage: Stage, tmp_path: Path) -> None:
    log, environment = tmp_path / "refused.log", {**stage.environment, "VECTOR_DB": "chroma"}
    with (
        pytest.raises(AssertionError, match="its searches would silently miss them"),
        run_workers(stage.python, environment, redis_url=stage.redis_url, queue="none", slots=1, log=log),
    ):
        pass


def test_a_model_in_the_process_is_loaded_once_and_works_after_the_fork(stage: Stage, tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    stage.peer.local_model(model)
    local = {"rag__embedding_engine": "", "rag__embedding_model": model}
    common = {"rag__embedding_engine": "openai", "rag__embedding_model": "the-common-model"}
    stage.peer.configure(**local)
    queue, log = Queue(f"{stage.queue.name}-local", connection=stage.queue.connection), tmp_path / "local.log"
    try:
        with run_workers(
            stage.python, stage.environment, redis_url=stage.redis_url, queue=queue.name, slots=2, log=log
        ):
            files = [stage.upload(paragraphs=4) for _ in range(4)]
            for job in [enqueue_file(queue, file_id) for file_id in files]:
                assert stage.wait(job).is_finished, log.read_text()[-3000:]
    finally:
        stage.peer.configure(**common)
        time.sleep(SETTINGS_KEPT_SECONDS)
    assert log.read_text().count("openwebui_model_loaded") == 1
    assert stage.embeddings.requests == []
    assert all(stage.chunks(f"file-{file_id}") for file_id in files)
