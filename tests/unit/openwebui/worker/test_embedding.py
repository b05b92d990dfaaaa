"""One batch to an embedding server that is busy, away, or against it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable
from emberq.openwebui.worker.embedding import embed_batch
from emberq.retry.backoff import Backoff


class Refused(Exception):
    """As aiohttp's error of a response: it has a status and headers."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"{status}, url='http://secret.example'")
        self.status, self.headers = status, {"Retry-After": headers.get("after", "0")}


def _embed(send: Callable[[], Any], *, engine: str = "openai") -> Any:
    backoff = Backoff(first_seconds=0.002, longest_seconds=1.0)
    return asyncio.run(embed_batch(send, engine=engine, total_seconds=0.2, backoff=backoff))


def _send(*outcomes: Any) -> tuple[Callable[[], Any], list[int]]:
    """Return a sender with these outcomes, the last one for ever, and the count of its calls."""
    calls: list[int] = []

    async def send() -> Any:
        outcome = outcomes[min(len(calls), len(outcomes) - 1)]
        calls.append(1)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return send, calls


@pytest.mark.parametrize("error", [Refused(429), Refused(503), ConnectionResetError(), TimeoutError()])
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    send, calls = _send(error, error, [[1.0]])
    assert _embed(send) == [[1.0]]
    assert len(calls) == 3


def test_what_stays_is_given_up_with_the_status_and_without_the_address() -> None:
    send, calls = _send(Refused(503))
    with pytest.raises(EmbeddingUnavailable, match=r"HTTP 503") as caught:
        _embed(send)
    assert len(calls) > 2
    assert "secret.example" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    send, calls = _send(Refused(429, after="30"), [[1.0]])
    with pytest.raises(EmbeddingUnavailable):
        _embed(send)
    assert len(calls) == 1


@pytest.mark.parametrize(("status", "words"), [(401, "its key"), (404, "model"), (400, "the request")])
def test_a_refusal_for_good_is_told_at_once(status: int, words: str) -> None:
    send, calls = _send(Refused(status))
    with pytest.raises(EmbeddingRejected, match=words):
        _embed(send)
    assert len(calls) == 1


def test_no_vectors_are_a_refusal() -> None:
    send, _ = _send(None)
    with pytest.raises(EmbeddingRejected, match="no vectors"):
        _embed(send, engine="ollama")


def test_a_local_models_error_is_its_own() -> None:
    send, calls = _send(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError):
        _embed(send, engine="")
    assert len(calls) == 1
