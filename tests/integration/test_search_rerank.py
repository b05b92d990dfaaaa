"""Search with `rerank`: the cross-encoder has the last word, and without one it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from emberq.config.current import get_config_cache
from emberq.errors import EmbeddingUnavailable, InvalidRequest
from emberq.models.pins import DEFAULT_MODEL
from emberq.search import search
from emberq.store.admin.changes import change_settings
from emberq.store.files.search import Hit
from emberq.store.services import Services
from tests.harness.tiny_cross_encoder import make_cross_encoder
from tests.integration.store.steps import add, claim, collection_of, commit

TEXTS = ["far away", "terns fly", "far terns fly", *(f"law number {n}" for n in range(20))]


def find(services: Services, limit: int) -> list[Hit]:
    return search(
        services,
        tenant="default",
        collection="docs",
        query="terns fly far",
        limit=limit,
        mode="hybrid",
        rerank=True,
    )


@pytest.fixture
def collection(services: Services) -> None:
    collection_of(services)
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE collections SET embedding_model = :name"), {"name": DEFAULT_MODEL})
    commit(services, claim(services, add(services).job_id), TEXTS)


def set_model(services: Services, name: str) -> None:
    with services.database.system_transaction() as connection:
        change = {"rag_reranking_model": name}
        version = change_settings(connection, services.sealer, change, changed_by="test")
    get_config_cache().newest.announce(version)


def test_the_cross_encoder_orders_the_hits(services: Services, collection: None, tmp_path: Path) -> None:
    set_model(services, str(make_cross_encoder(tmp_path)))
    hits = find(services, 3)
    assert [hit.text for hit in hits] == ["far terns fly", "terns fly", "far away"]
    assert [round(hit.score, 3) for hit in hits] == [0.818, 0.622, 0.378]
    assert len(find(services, 100)) == len(TEXTS)


def test_no_model_and_a_wrong_one_are_told(services: Services, collection: None) -> None:
    with pytest.raises(InvalidRequest, match="no reranking model"):
        find(services, 3)
    set_model(services, "/nowhere")
    with pytest.raises(EmbeddingUnavailable, match="lacks model"):
        find(services, 3)
