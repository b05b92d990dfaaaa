"""`/v1/embeddings`, `/v1/rerank` and `/v1/models` of a running API, as other programs use them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from sqlalchemy import make_url, text

from emberq.api.app import make_app, make_server, open_listener
from emberq.config.environment import Environment
from emberq.models.batcher import BULK, Batcher
from emberq.models.pins import DEFAULT_MODEL
from emberq.pipeline.resources import get_embedder
from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key
from emberq.store.admin.changes import change_settings
from emberq.store.services import Services, configure_services
from emberq.testing.proxy import TcpProxy
from tests.harness.eventually import eventually
from tests.harness.tiny_cross_encoder import make_cross_encoder

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Api:
    """A running API, and a client that opens a connection for every request, as Open WebUI does."""

    host: str
    port: int
    key: str
    batcher: Batcher
    stop: Callable[[], None]

    async def send(
        self, body: object, *, path: str = "/v1/embeddings", key: str | None = None, method: str = "POST"
    ) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            return await self._exchange(reader, writer, data, path=path, key=key or self.key, method=method)
        finally:
            # Not `close`, which waits for a body that a server that has refused it no longer reads.
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        data: bytes,
        *,
        path: str,
        key: str,
        method: str,
    ) -> Answer:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: emberq\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + data)
        raw = await reader.read()
        top, _, payload = raw.partition(b"\r\n\r\n")
        first, *lines = top.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(first.split()[1]), headers, json.loads(payload))

    def ask(self, body: object, **options: Any) -> Answer:
        return asyncio.run(self.send(body, **options))

    def vectors(self, body: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        answer = self.ask(body)
        assert answer.status == 200, answer.body
        return np.array([one["embedding"] for one in answer.body["data"]], np.float32)


Start = Callable[[], Api]


def new_key(services: Services, **options: Any) -> str:
    with services.database.system_transaction() as connection:
        return create_key(
            connection, name="test", **({"tenant": DEFAULT_TENANT, "scopes": ["read"]} | options)
        )


@pytest.fixture
def start(services: Services) -> Iterator[Start]:
    running: list[Api] = []

    def run() -> Api:
        app = make_app(maintenance=False)
        listener = open_listener("127.0.0.1", 0)
        server = make_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(30)
            listener.close()

        host, port = listener.getsockname()
        running.append(Api(host, port, new_key(services), app.state.batcher, stop))
        eventually(lambda: server.started)
        return running[-1]

    yield run
    for api in running:
        api.stop()


@pytest.fixture
def api(start: Start) -> Api:
    return start()


def tokens_embedded() -> int:
    return get_embedder(DEFAULT_MODEL).tokens_embedded


def cached_rows(services: Services) -> int:
    with services.database.system_transaction() as connection:
        return int(connection.execute(text("SELECT count(*) FROM embedding_cache")).scalar_one())


def test_the_answer_has_openais_shape_and_the_models_vectors(api: Api) -> None:
    texts = ["Terns fly far.", "", "The law of taxes."]
    answer = api.ask({"input": texts, "model": HUB_NAME, "user": "u", "anything": {"else": 1}})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.body["object"] == "list"
    assert answer.body["model"] == HUB_NAME
    assert [(one["object"], one["index"]) for one in answer.body["data"]] == [
        ("embedding", index) for index in range(3)
    ]
    vectors, tokens = get_embedder(DEFAULT_MODEL).compute(texts)
    given = np.array([one["embedding"] for one in answer.body["data"]], np.float32)
    np.testing.assert_allclose(given, vectors, atol=1e-6)
    assert answer.body["usage"] == {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}
    # The same to the last bit, and the same use, from the cache; one text may come without a list.
    again = api.ask({"input": texts[0]})
    assert again.body["data"][0]["embedding"] == answer.body["data"][0]["embedding"]
    assert again.body["usage"]["total_tokens"] == tokens[0]
    assert again.body["model"] == DEFAULT_MODEL


def test_base64_holds_the_same_floats(api: Api) -> None:
    floats = api.vectors({"input": ["Terns fly far."]})
    coded = api.ask({"input": ["Terns fly far."], "encoding_format": "base64", "dimensions": 384})
    assert base64.b64decode(coded.body["data"][0]["embedding"]) == floats.astype("<f4").tobytes()


def test_many_texts_in_one_request_keep_their_order(api: Api) -> None:
    texts = [f"text {n % 150}" for n in range(300)]
    vectors = api.vectors({"input": texts})
    singles = api.vectors({"input": texts[:3]})
    assert vectors[150:153].tobytes() == vectors[:3].tobytes() == singles.tobytes()


@pytest.mark.slow
def test_two_thousand_requests_at_once_are_all_answered_and_the_second_round_costs_no_token(
    services: Services, start: Start
) -> None:
    async def burst(api: Api) -> list[Answer]:
        return await asyncio.gather(*(api.send({"input": [f"tern {n}"]}) for n in range(2000)))

    api = start()
    before = tokens_embedded()
    first = asyncio.run(burst(api))
    assert {answer.status for answer in first} == {200}
    eventually(lambda: cached_rows(services) == 2000)
    embedded = tokens_embedded()
    assert embedded > before
    second = asyncio.run(burst(api))
    assert [answer.body for answer in second] == [answer.body for answer in first]
    assert tokens_embedded() == embedded
    # Nor does it after a restart, from the database, to the last bit.
    api.stop()
    third = asyncio.run(burst(start()))
    assert [answer.body for answer in third] == [answer.body for answer in first]
    assert tokens_embedded() == embedded


def test_a_query_is_answered_while_bulk_waits(api: Api) -> None:
    async def story() -> int:
        bulk = [
            asyncio.ensure_future(api.send({"input": [f"{n} miles " * 60], "input_type": "passage"}))
            for n in range(200)
        ]
        await asyncio.to_thread(eventually, lambda: api.batcher.waiting(BULK) >= 100)
        query = await api.send({"input": "How far do terns fly?", "input_type": "query"})
        assert query.status == 200
        waiting = api.batcher.waiting(BULK)
        assert {answer.status for answer in await asyncio.gather(*bulk)} == {200}
        return waiting

    assert asyncio.run(story()) > 0


def test_what_a_client_that_hung_up_asked_for_is_not_embedded(api: Api) -> None:
    texts = [f"{n} long " * 100 for n in range(1000)]
    one = get_embedder(DEFAULT_MODEL).compute(texts[:1])[1][0]
    before = tokens_embedded()

    async def story() -> None:
        bulk = asyncio.ensure_future(api.send({"input": texts}))
        await asyncio.to_thread(eventually, lambda: api.batcher.waiting(BULK) >= 500)
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)
        # Behind it in the queue.
        assert (await api.send({"input": "after"})).status == 200

    asyncio.run(story())
    assert api.batcher.waiting(BULK) == 0
    assert tokens_embedded() - before < 500 * one


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "says"),
    [
        ({"input": "a", "model": "gpt"}, 404, "model_not_found", "model", f"Use one of: {DEFAULT_MODEL}"),
        ({"input": "a", "model": "/etc"}, 404, "model_not_found", "model", "no model '/etc'"),
        ({"input": [1, 2]}, 400, "invalid_request", "input", "send the text"),
        ({"input": [[1, 2]]}, 400, "invalid_request", "input", "send the text"),
        ({"input": []}, 400, "invalid_request", "input", "at least 1"),
        ({"input": ["a"] * 2049}, 400, "invalid_request", "input", "at most 2048"),
        ({}, 400, "invalid_request", "input", "required"),
        ({"input": "a", "dimensions": 8}, 400, "invalid_request", "dimensions", "384 dimensions, not 8"),
        ({"input": "a", "encoding_format": "x"}, 400, "invalid_request", "encoding_format", "base64"),
        (b'{"input": "\\ud800"}', 400, "invalid_request", None, "JSON"),
        (b"no json", 400, "invalid_request", None, "JSON"),
        (b" " * ((8 << 20) + 1), 413, "invalid_request", None, "8 MiB"),
    ],
)
def test_errors_have_openais_shape(
    api: Api, body: object, status: int, code: str, param: str | None, says: str
) -> None:
    answer = api.ask(body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert says in error["message"]


def test_keys_and_methods_are_refused_in_openais_shape(services: Services, api: Api) -> None:
    body = {"input": "a"}
    wrong = api.ask(body, key="eq_wrong")
    assert (wrong.status, wrong.body["error"]["code"]) == (401, "invalid_api_key")
    assert wrong.headers["www-authenticate"] == "Bearer"
    writes = api.ask(body, key=new_key(services, scopes=["write"]))
    assert (writes.status, writes.body["error"]["type"]) == (403, "permission_error")
    method = api.ask(body, method="PUT")
    assert (method.status, set(method.body)) == (405, {"error"})
    # Elsewhere errors are problem details as ever.
    assert api.ask({}, path="/v1/nothing").headers["content-type"] == "application/problem+json"


def test_models_are_listed(api: Api) -> None:
    answer = api.ask(b"", path="/v1/models", method="GET")
    assert answer.body["object"] == "list"
    assert answer.body["data"][0]["id"] == DEFAULT_MODEL
    assert api.ask({"input": "a", "model": answer.body["data"][0]["id"]}).status == 200


def test_a_tenant_has_its_own_model(services: Services, api: Api) -> None:
    with services.database.system_transaction() as connection:
        change_settings(
            connection,
            services.sealer,
            {"rag_embedding_model": "/nowhere"},
            tenant="birds",
            changed_by="test",
        )
    key = new_key(services, tenant="birds")

    def is_known() -> bool:
        return api.ask({"input": "a"}, key=key).status == 503

    eventually(is_known)
    answer = api.ask({"input": "a"}, key=key)
    assert answer.body["error"]["code"] == "embedding_unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert api.ask({"input": "a", "model": DEFAULT_MODEL}, key=key).status == 200
    assert api.ask({"input": "a"}).status == 200


def test_who_waits_when_the_api_stops_is_told_to_come_again(api: Api) -> None:
    async def story() -> Answer:
        waiting = asyncio.ensure_future(api.send({"input": [f"{n} long " * 100 for n in range(500)]}))
        await asyncio.to_thread(eventually, lambda: api.batcher.waiting(BULK) >= 100)
        await asyncio.to_thread(api.stop)
        return await waiting

    answer = asyncio.run(story())
    assert (answer.status, answer.body["error"]["type"]) == (503, "server_error")
    assert int(answer.headers["retry-after"]) > 0


def test_a_database_that_is_away_fails_no_embedding(services: Services, start: Start, tmp_path: Path) -> None:
    directory = parse_qs(urlsplit(services.database.url).query)["host"][0]
    with TcpProxy(f"{directory}/.s.PGSQL.5432") as wire:
        url = make_url(services.database.url).set(host="127.0.0.1", port=wire.port)
        far = configure_services(
            Environment(data_dir=tmp_path),
            database_url=url.difference_update_query(["host"]).render_as_string(hide_password=False),
            redis_url=services.redis_url,
        )
        api = start()
        first = api.vectors({"input": ["before"]})
        wire.cut()
        # The key was known a moment ago, and is trusted on when that moment is over.
        for n in range(3):
            assert api.ask({"input": [f"during {n}"]}).status == 200
            # A key is trusted for a second after it was looked up.
            time.sleep(1.1)
        assert api.vectors({"input": ["before"]}).tobytes() == first.tobytes()
        unknown = api.ask({"input": "a"}, key="eq_unknown")
        assert (unknown.status, unknown.body["error"]["code"]) == (503, "database_unavailable")
        wire.heal()
        assert api.ask({"input": "a"}, key="eq_unknown").status == 401
        api.stop()
        far.database.close()


def test_scores_come_from_the_angle_between_vectors_where_no_cross_encoder_is_set(api: Api) -> None:
    documents = ["The law of taxes.", "How far do terns fly?", {"text": "Terns migrate far."}]
    answer = api.ask(
        {"query": "How far do terns fly?", "documents": documents, "model": "emberq", "top_n": 3},
        path="/v1/rerank",
    )
    assert answer.status == 200
    assert answer.body["model"] == DEFAULT_MODEL
    results = answer.body["results"]
    assert [one["index"] for one in results] == [1, 2, 0]
    assert results[0]["relevance_score"] == pytest.approx(1)
    assert all(0 <= one["relevance_score"] <= 1 for one in results)
    assert set(results[0]) == {"index", "relevance_score"}
    top = api.ask(
        {"query": "How far do terns fly?", "documents": documents, "top_n": 1, "return_documents": True},
        path="/v1/rerank",
    )
    assert [one["document"] for one in top.body["results"]] == [{"text": "How far do terns fly?"}]
    refused = api.ask({"query": "a", "documents": ["b"], "model": "bge"}, path="/v1/rerank")
    assert (refused.status, refused.body["error"]["code"]) == (404, "model_not_found")
    empty = api.ask({"query": "a", "documents": []}, path="/v1/rerank")
    assert (empty.status, empty.body["error"]["param"]) == (400, "documents")


def test_scores_come_from_the_cross_encoder_that_is_set(
    services: Services, start: Start, tmp_path: Path
) -> None:
    home = make_cross_encoder(tmp_path / "tiny")
    with services.database.system_transaction() as connection:
        change_settings(connection, services.sealer, {"rag_reranking_model": str(home)}, changed_by="test")
    api = start()
    body = {"query": "terns fly far", "documents": ["tax law", "terns fly", "far terns fly"]}
    answer = api.ask(body, path="/v1/rerank")
    assert answer.body["model"] == "tiny"
    sigmoid = [float(1 / (1 + np.exp(-x))) for x in (1.5, 0.5, -1.5)]
    assert [one["index"] for one in answer.body["results"]] == [2, 1, 0]
    assert [one["relevance_score"] for one in answer.body["results"]] == pytest.approx(sigmoid)
    assert api.ask(body | {"model": str(home)}, path="/v1/rerank").body == answer.body
    # The embedding model may still be asked by its name.
    assert api.ask(body | {"model": DEFAULT_MODEL}, path="/v1/rerank").body["model"] == DEFAULT_MODEL
