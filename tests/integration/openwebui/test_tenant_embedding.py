"""Texts of a tenant, sent to the server in its settings through the outbound door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from emberq.config.environment import get_environment
from emberq.errors import EmbeddingRejected, SettingInvalid
from emberq.openwebui.worker.embedding import embed_batch, embed_for_tenant
from tests.harness.raw_server import Answer, body, endlessly, serve

VECTORS = body(json.dumps({"data": [{"embedding": [0.5, 1.0]}, {"embedding": [1.0, 0.5]}]}).encode())


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    get_environment.cache_clear()
    yield
    get_environment.cache_clear()


@pytest.fixture
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBERQ_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1")


def embed(url: str) -> list[list[float]]:
    return embed_for_tenant("the-model", ["one", "two"], url, "the-key", prefix={"input_type": "passage"})


@pytest.mark.usefixtures("_loopback_allowed")
def test_an_allowed_server_gets_the_texts_and_the_key() -> None:
    with serve(VECTORS) as server:
        assert embed(f"{server.url}/v1") == [[0.5, 1.0], [1.0, 0.5]]
    assert server.heads[0].startswith(b"POST /v1/embeddings ")
    assert b"Authorization: Bearer the-key\r\n" in server.heads[0]


def test_a_private_address_is_not_asked() -> None:
    with serve(VECTORS) as server:
        with pytest.raises(SettingInvalid, match=r"The address of 127\.0\.0\.1 is not public") as refused:
            embed(server.url)
        assert "EMBERQ_OUTBOUND_ALLOW_PRIVATE" in refused.value.hint
        assert server.heads == []


@pytest.mark.usefixtures("_loopback_allowed")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(body(b"[]"), id="other JSON"),
        pytest.param(body(b'{"data": [{"embedding": [1.0]}]}'), id="too few vectors"),
        pytest.param(body(b"<html>"), id="no JSON"),
        pytest.param(endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"[" * 65536), id="endless"),
        pytest.param(body(b"", status="401 Unauthorized"), id="refused"),
    ],
)
def test_other_answers_are_rejected_at_once(answer: Answer) -> None:
    with serve(answer) as server:

        async def send() -> list[list[float]]:
            return await asyncio.to_thread(embed, server.url)

        with pytest.raises(EmbeddingRejected) as rejected:
            asyncio.run(embed_batch(send, engine="openai"))
        assert len(server.heads) == 1
    assert "127.0.0.1" not in rejected.value.message
