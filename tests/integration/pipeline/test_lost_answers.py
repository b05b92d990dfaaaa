"""The job's own transactions when the answer to their COMMIT is lost: never twice, never forgotten."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from sqlalchemy import event, make_url, select

from emberq.config.environment import Environment
from emberq.errors import DatabaseUnavailable
from emberq.pipeline import process
from emberq.pipeline.document import Document
from emberq.pipeline.stages import Stages
from emberq.store.files.add import add_file
from emberq.store.files.blobs import StoredBlob
from emberq.store.files.collections import create_collection
from emberq.store.files.commit import ChunkValues
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import Attempt, LeaseLost
from emberq.store.jobs.queries import get_job
from emberq.store.schema.tables import ChunkRow
from emberq.store.services import Services, configure_services
from emberq.testing.proxy import TcpProxy


@pytest.fixture
def proxy(database_url: str) -> Iterator[TcpProxy]:
    host = parse_qs(urlsplit(database_url).query)["host"][0]
    with TcpProxy(f"{host}/.s.PGSQL.{make_url(database_url).port or 5432}") as running:
        yield running


@pytest.fixture
def services(proxy: TcpProxy, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Services]:
    url = make_url(database_url).set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])
    configured = configure_services(
        Environment(data_dir=tmp_path),
        database_url=url.render_as_string(hide_password=False),
        redis_url=redis_url,
    )
    yield configured
    configured.database.close()


@pytest.fixture
def lose_answer(services: Services, proxy: TcpProxy) -> Callable[[], None]:
    """Lose the answer to the next COMMIT, and only to that one."""
    armed: list[bool] = []

    @event.listens_for(services.database.engine, "commit")
    def committing(_connection: object) -> None:
        if armed:
            armed.clear()
            proxy.swallow_answers(once=True)

    return lambda: armed.append(True)


@pytest.fixture
def job_id(services: Services) -> uuid.UUID:
    blob = StoredBlob(hashlib.sha256(b"one").hexdigest(), 3)
    with services.database.system_transaction() as connection:
        collection = create_collection(connection, "default", "docs", embedding_model="m")
        added = add_file(
            connection, collection=collection, name="a.txt", blob=blob, max_attempts=3, max_pending=9
        )
        admit_jobs(connection, limit=10)
    return added.job_id


def job(services: Services, job_id: uuid.UUID) -> dict[str, Any]:
    with services.database.system_transaction() as connection:
        return get_job(connection, "default", job_id)


def claim(services: Services, job_id: uuid.UUID, ticket: str) -> Attempt | None:
    return process._claim(services, job_id, ticket=ticket, worker="w", host_id=None)


def test_a_claim_whose_answer_is_lost_is_ended_uncounted_and_not_made_twice(
    services: Services, job_id: uuid.UUID, lose_answer: Callable[[], None]
) -> None:
    ticket = job(services, job_id)["ticket"]
    lose_answer()
    with pytest.raises(DatabaseUnavailable):
        claim(services, job_id, ticket)
    after = job(services, job_id)
    # It had been made, but nothing was tried: no attempt is spent, and the job does not wait for nobody.
    assert (after["state"], after["attempt"]) == ("pending", 0)
    assert [reason["code"] for reason in after["attempts"]] == ["database_unavailable"]


def test_a_commit_whose_answer_is_lost_is_found_to_have_completed_the_job(
    services: Services, job_id: uuid.UUID, lose_answer: Callable[[], None]
) -> None:
    attempt = claim(services, job_id, job(services, job_id)["ticket"])
    assert attempt is not None
    chunk = ChunkValues(0, "one", 0, 3, 1, None, b"x", np.ones(384, dtype=np.float32))
    document = Document(text="one", media_type="text/plain", segments=())
    lose_answer()
    with pytest.raises(LeaseLost):
        process._commit(services, attempt, document, [chunk], Stages(services, attempt))
    assert process._is_completed(services, attempt)
    assert job(services, job_id)["state"] == "completed"
    with services.database.system_transaction() as connection:
        assert list(connection.execute(select(ChunkRow.text)).scalars()) == ["one"]
