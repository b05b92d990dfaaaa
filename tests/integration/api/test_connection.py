"""Connections of clients that are too slow, too many, or no HTTP clients: answered, closed, and counted."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn
from structlog.testing import capture_logs

from emberq.api.app import make_app, make_server, open_listener
from emberq.api.door import connection
from emberq.config.environment import Environment
from emberq.redis_pools import close_redis_pools
from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key
from emberq.store.services import configure_services
from tests.harness.eventually import LIMIT_SECONDS, eventually

_MOST = 20
_JSON = "Content-Type: application/json"
_CHUNKED = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Api:
    """The API behind a real socket."""

    def __init__(self, address: tuple[str, int], key: str, server: uvicorn.Server) -> None:
        self.address = address
        self.key = key
        self.server = server

    def connect(self, sent: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.address, timeout=LIMIT_SECONDS)
        client.sendall(sent)
        return client

    def head(self, line: str, *headers: str, key: str | None = None) -> bytes:
        fixed = ["Host: emberq", f"Authorization: Bearer {self.key if key is None else key}"]
        return "\r\n".join([f"{line} HTTP/1.1", *fixed, *headers, "", ""]).encode()

    def is_alive(self) -> bool:
        with self.connect(self.head("GET /healthz", "Connection: close")) as client:
            return read(client)[0] == 200


def read(client: socket.socket) -> tuple[int, dict[str, object]]:
    """Read an answer until the server closes the connection."""
    raw = b""
    while data := client.recv(65536):
        raw += data
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def api(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Api]:
    environment = Environment(data_dir=tmp_path, max_connections_per_address=_MOST)
    services = configure_services(environment, database_url=database_url, redis_url=redis_url)
    with services.database.system_transaction() as transaction:
        key = create_key(transaction, name="test", tenant=DEFAULT_TENANT, scopes=["admin"])
    listener = open_listener("127.0.0.1", 0)
    server = make_server(make_app(maintenance=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    eventually(lambda: server.started)
    yield Api(listener.getsockname(), key, server)
    server.should_exit = True
    thread.join(30)
    listener.close()
    services.database.close()
    close_redis_pools()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the time limits so short that a test can wait for them."""
    monkeypatch.setattr(connection, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(connection, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(connection, "_LINGER_SECONDS", 1.0)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: emberq\r\nX-Slow: "])
def test_a_client_that_never_ends_its_headers_is_told_and_closed(api: Api, hurry: None, sent: bytes) -> None:
    with api.connect(sent) as client:
        status, problem = read(client)
    assert (status, problem["code"]) == (408, "invalid_request")
    assert api.is_alive()


def test_a_client_that_trickles_its_headers_is_closed_all_the_same(api: Api, hurry: None) -> None:
    stop = threading.Event()
    with api.connect(b"GET /healthz HTTP/1.1\r\nX-Slow: ") as client:

        def trickle() -> None:
            while not stop.wait(0.05):
                try:
                    client.send(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        assert read(client)[0] == 408
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("POST /api/v1/collections", "application/json"),
        ("PUT /tika", "text/plain"),
        ("POST /v1/rerank", "a/b"),
    ],
)
def test_a_body_that_comes_too_slowly_is_refused(api: Api, hurry: None, line: str, kind: str) -> None:
    with api.connect(api.head(line, f"Content-Type: {kind}", "Content-Length: 60000") + b'{"') as client:
        status, problem = read(client)
    assert (status, problem["code"]) == (408, "invalid_request")
    eventually(lambda: not api.server.server_state.connections)


def test_a_client_that_does_not_read_its_answers_is_closed(api: Api, hurry: None) -> None:
    with api.connect() as client:
        client.settimeout(1)
        # One after the other on one connection, and more than the buffers of the kernel hold.
        requests = api.head("GET /openapi.json") * 1000
        with suppress(OSError):
            while True:
                client.sendall(requests)
        eventually(lambda: not api.server.server_state.connections)
    assert api.is_alive()


def test_the_answers_that_wait_for_their_clients_are_bounded_together(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_UNREAD_BYTES", 100_000)
    for number in range(40):
        body = json.dumps({"name": f"c{number}", "metadata": {"a": "x" * 16_000}})
        made = ("POST /api/v1/collections", _JSON, f"Content-Length: {len(body)}", "Connection: close")
        with api.connect(api.head(*made) + body.encode()) as client:
            assert read(client)[0] == 201
    with api.connect() as client, capture_logs() as logs:
        # More than the buffers of the kernel hold.
        client.sendall(api.head("GET /api/v1/collections") * 20)
        eventually(lambda: "unread_answer_dropped" in {entry["event"] for entry in logs})
        eventually(lambda: not api.server.server_state.connections)
    assert api.is_alive()


def test_connections_that_are_quick_enough_are_left_alone(api: Api, hurry: None) -> None:
    body = b'{"name": "slow"}'
    sent = api.head(
        "POST /api/v1/collections", "Content-Type: application/json", f"Content-Length: {len(body)}"
    )
    with api.connect(sent) as client:
        for byte in body:
            time.sleep(0.02)
            client.sendall(bytes([byte]))
        # A connection without a request is closed a few seconds later, without a word.
        status, made = read(client)
    assert (status, made["name"]) == (201, "slow")


def test_an_address_with_too_many_connections_is_refused_until_it_has_fewer(api: Api) -> None:
    kept = [api.connect() for _ in range(_MOST)]
    eventually(lambda: len(api.server.server_state.connections) == _MOST)
    with api.connect(api.head("GET /healthz")) as client:
        status, problem = read(client)
    assert (status, problem["code"]) == (429, "rate_limited")
    for one in kept:
        one.close()
    eventually(lambda: not api.server.server_state.connections)
    assert api.is_alive()


def test_a_long_body_without_a_key_is_answered_and_the_answer_arrives(api: Api) -> None:
    size = 60 << 20
    with api.connect(api.head("POST /api/v1/collections", f"Content-Length: {size}", key="")) as client:
        for _ in range(size >> 20):
            client.sendall(b"[]," * ((1 << 20) // 3) + b" ")
        # All of it was sent before the answer is read, as simple clients do.
        status, problem = read(client)
    assert (status, problem["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("key", [None, ""])
def test_a_body_in_tiny_chunks_is_refused(api: Api, key: str | None) -> None:
    head = api.head("POST /v1/embeddings", "Transfer-Encoding: chunked", key=key)
    with api.connect(head + b"1\r\n \r\n" * 200_000) as client:
        assert read(client)[0] in (400, 401)
    assert api.is_alive()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x16\x03\x01 what is this\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 100_000, 431),
        (b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /healthz?" + b"&" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"a:\r\n" * 300 + b"\r\n", 431),
        (_CHUNKED + b"1\r\na\r\n0\r\n" + b"a:\r\n" * 300 + b"\r\n", 431),
        (_CHUNKED.replace(b"Transfer", b"Content-Length: 5\r\nTransfer") + b"0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Nul: \0\r\n\r\n", 400),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_is_answered_with_a_problem(api: Api, sent: bytes, expected: int) -> None:
    with api.connect(sent) as client:
        status, problem = read(client)
    assert (status, problem["status"], problem["code"]) == (expected, expected, "invalid_request")


def test_trailers_that_come_after_their_chunk_are_bounded_too(api: Api) -> None:
    head = api.head("POST /api/v1/collections", "Transfer-Encoding: chunked")
    with api.connect(head + b"2\r\n{}\r\n0\r\n") as client:
        time.sleep(0.2)
        client.sendall(b"a:\r\n" * 300 + b"\r\n")
        assert read(client)[0] == 431


def test_a_body_may_have_many_lines_and_a_trailer(api: Api) -> None:
    head = api.head("POST /api/v1/collections", "Transfer-Encoding: chunked", "Connection: close", _JSON)
    body = b'{"name":' + b"\n" * 5000 + b'"lines"}'
    pieces = [body[at : at + 700] for at in range(0, len(body), 700)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    with api.connect(head + sent + b"0\r\nX-Sum: 1\r\n\r\n") as client:
        status, made = read(client)
    assert (status, made["name"]) == (201, "lines")


def test_what_is_no_http_writes_nothing_to_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), api.connect(b"what is this\r\n\r\n") as client:
        assert read(client)[0] == 400
    assert "Invalid HTTP" not in caplog.text


def test_an_upgrade_is_answered_as_a_request_like_any_other(api: Api) -> None:
    upgrade = ("Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    with api.connect(api.head("GET /healthz", *upgrade)) as client:
        assert read(client) == (200, {"status": "ok"})
