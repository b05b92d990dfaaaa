"""A tenant's own embedding engine, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from emberq.config.snapshot import Unreadable, assemble
from emberq.errors import SettingInvalid
from emberq.openwebui.worker.tenants import tenant_values

SERVER = {"rag_embedding_api_base_url": "https://embed.example/v1/", "rag_embedding_engine": "openai"}
OWN_KEY = {"rag_embedding_api_key": "key-of-acme", "rag_embedding_model": "model-of-acme"}


def _values(tenant: str, values: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    return tenant_values(tenant, assemble(1, values, **more))


def test_a_tenant_has_its_own_model_server_and_key() -> None:
    assert _values("acme", {"acme": {**SERVER, **OWN_KEY}}) == {
        "rag.embedding_engine": "openai",
        "rag.embedding_model": "model-of-acme",
        "rag.openai.api_base_url": "https://embed.example/v1",
        "rag.openai.api_key": "key-of-acme",
        "rag.embedding_batch_size": 32,
    }


def test_the_server_may_be_the_common_one() -> None:
    found = _values("acme", {"": SERVER, "acme": OWN_KEY})
    assert found["rag.openai.api_base_url"] == "https://embed.example/v1"


@pytest.mark.parametrize("others", [{"": {**SERVER, **OWN_KEY}}, {"": SERVER, "other": OWN_KEY}])
def test_no_other_tenants_key_is_used(others: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(SettingInvalid, match="no embedding key of its own; nothing was sent") as caught:
        _values("acme", others)
    assert "key-of-acme" not in caught.value.message + caught.value.hint


def test_an_empty_key_is_none() -> None:
    with pytest.raises(SettingInvalid, match="no embedding key"):
        _values("acme", {"": SERVER, "acme": {"rag_embedding_api_key": ""}})


def test_a_key_without_a_server_is_not_sent_to_open_webuis() -> None:
    with pytest.raises(SettingInvalid, match="no embedding server"):
        _values("acme", {"acme": OWN_KEY})


def test_a_key_that_cannot_be_unsealed_is_told() -> None:
    unreadable = [Unreadable("rag_embedding_api_key", "acme", "sealed with another key")]
    with pytest.raises(SettingInvalid, match="cannot be read"):
        _values("acme", {"": SERVER, "acme": {"rag_embedding_model": "m"}}, unreadable=unreadable)
