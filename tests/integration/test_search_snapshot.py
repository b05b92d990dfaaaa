"""A search that looks twice sees one version of a file, also if it is replaced between the two looks."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from emberq import search as search_module
from emberq.models.pins import DEFAULT_MODEL
from emberq.store.files.search import Hit, keyword_search
from emberq.store.services import Services
from tests.integration.store.steps import add, claim, collection_of, commit


def test_a_hybrid_search_does_not_mix_two_versions(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection_of(services)
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE collections SET embedding_model = :name"), {"name": DEFAULT_MODEL})
    first = add(services, "one", external_id="a")
    commit(services, claim(services, first.job_id), ["storks of the first version"])

    def replace_and_search(*arguments: Any, **options: Any) -> list[Hit]:
        second = add(services, "two", external_id="a")
        commit(services, claim(services, second.job_id), ["storks of the second version"])
        return keyword_search(*arguments, **options)

    monkeypatch.setattr(search_module, "keyword_search", replace_and_search)
    hits = search_module.search(
        services, tenant="default", collection="docs", query="storks", limit=5, mode="hybrid"
    )
    assert [hit.text for hit in hits] == ["storks of the first version"]
