"""`/v1/embeddings` and `/v1/rerank` of a whole installation, whose API was forked with its model loaded."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import httpx

from tests.acceptance.test_metrics import scrape
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.harness.stack import Stack


def test_other_programs_get_vectors_and_scores_and_metrics_tell(stack: Stack, client: httpx.Client) -> None:
    before = scrape(f"{stack.url}/metrics")
    body = {"input": ["Terns of the acceptance test fly far."], "model": "all-MiniLM-L6-v2"}
    first, again = (client.post("/v1/embeddings", json=body) for _ in range(2))
    assert first.status_code == 200
    assert first.json() == again.json()
    assert len(first.json()["data"][0]["embedding"]) == 384
    after = scrape(f"{stack.url}/metrics")
    for result in ("hit", "miss"):
        name = f'emberq_embedding_cache_total{{result="{result}"}}'
        assert after[name] - before.get(name, 0) == 1
    tokens = after["emberq_embedding_tokens_total{}"] - before.get("emberq_embedding_tokens_total{}", 0)
    assert tokens == first.json()["usage"]["total_tokens"]
    assert after['emberq_embedding_queue_depth{queue="bulk"}'] == 0
    ranked = client.post("/v1/rerank", json={"query": "terns", "documents": ["tax law", "Terns fly."]})
    assert [one["index"] for one in ranked.json()["results"]] == [1, 0]
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/embeddings", "/v1/models", "/v1/rerank"} <= set(paths)


def test_who_waits_when_emberq_stops_is_told_to_come_again(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(workers=1)
    answers: list[Any] = []

    def ask() -> None:
        with stack.http() as client:
            texts = [f"{n} long " * 100 for n in range(2000)]
            answers.append(client.post("/v1/embeddings", json={"input": texts}))

    asking = threading.Thread(target=ask)
    asking.start()
    name = 'emberq_embedding_queue_depth{queue="bulk"}'
    eventually(lambda: scrape(f"{stack.url}/metrics").get(name, 0), lambda waiting: waiting >= 1000)
    assert stack.stop(signal.SIGTERM) == 0
    asking.join(LIMIT_SECONDS)
    assert answers[0].status_code == 503
    assert "stops" in answers[0].json()["error"]["message"]
