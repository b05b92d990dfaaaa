"""What anyone, or the holder of a key, may send to stop the service: the neighbours notice nothing.

The limits are wide, for busy machines; each of these took from half a minute to for ever before.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.harness.eventually import eventually, scaled
from tests.harness.stack import Stack

#: Seconds in which `/healthz`, and a neighbour's search, are answered during an attack.
_HEALTH_SECONDS, _SEARCH_SECONDS = scaled(3.0), scaled(10.0)
#: Bytes by which the API may grow.
_GROWTH = 200 << 20

pytestmark = pytest.mark.slow


class Neighbour:
    """Another tenant, who searches, and a look at the API from outside."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        with stack.http() as admin:
            made = admin.post("/api/v1/keys", json={"name": "attacks", "tenant": "neighbour"})
        self._client = stack.http(key=made.json()["key"])
        self._client.post("/api/v1/collections", json={"name": "docs"})
        uploaded = stack.upload(
            self._client, "terns.txt", b"Terns fly from pole to pole.", external_id="terns"
        ).json()
        stack.wait(self._client, uploaded["job"]["id"])
        titles = (psutil.Process(pid) for pid in stack.family())
        self._api = next(process for process in titles if "emberq: api" in " ".join(process.cmdline()))
        self._number = 0
        self.search()

    def close(self) -> None:
        self._client.close()

    def search(self) -> float:
        self._number += 1
        question = {"query": f"Who flies {self._number} times?"}
        began = time.monotonic()
        found = self._client.post("/api/v1/collections/docs/search", json=question)
        assert [one["file"]["name"] for one in found.json()["results"]] == ["terns.txt"]
        return time.monotonic() - began

    def health(self) -> float:
        began = time.monotonic()
        assert httpx.get(f"{self._stack.url}/healthz", timeout=scaled(60)).status_code == 200
        return time.monotonic() - began

    def memory(self) -> int:
        return int(self._api.memory_info().rss)

    def unharmed(self, attack: Callable[[], object]) -> None:
        """Run an attack, and check what the neighbour notices of it, and what is left of it."""
        before = self.memory()
        health, search = [self.health()], [self.search()]
        thread = threading.Thread(target=attack)
        thread.start()
        while thread.is_alive():
            health.append(self.health())
            search.append(self.search())
        thread.join()
        assert max(health) < _HEALTH_SECONDS, health
        assert max(search) < _SEARCH_SECONDS, search
        eventually(self.memory, lambda now: now < before + _GROWTH)


@pytest.fixture
def neighbour(stack: Stack) -> Iterator[Neighbour]:
    with closing(Neighbour(stack)) as made:
        yield made


@pytest.fixture
def attacker(stack: Stack) -> Iterator[str]:
    """The key of a tenant, revoked in the end."""
    with stack.http() as admin:
        made = admin.post("/api/v1/keys", json={"name": "attacker", "tenant": "attacker"}).json()["key"]
        yield made
        admin.delete(f"/api/v1/keys/{made[:8]}", params={"tenant": "attacker"})


def connect(stack: Stack) -> socket.socket:
    address = urlsplit(stack.url)
    return socket.create_connection((address.hostname, address.port), timeout=scaled(120))


@pytest.mark.parametrize("with_key", [False, True])
def test_sixty_megabytes_of_brackets(
    stack: Stack, neighbour: Neighbour, attacker: str, with_key: bool
) -> None:
    answers: list[int] = []
    content = b"[" + b"[]," * 20_000_000 + b"1]"

    def attack() -> None:
        headers = {"Authorization": f"Bearer {attacker}"} if with_key else {}
        for path in ("/api/v1/collections", "/v1/embeddings"):
            answer = httpx.post(f"{stack.url}{path}", content=content, headers=headers, timeout=scaled(120))
            answers.append(answer.status_code)

    neighbour.unharmed(attack)
    assert answers == [413 if with_key else 401] * 2


@pytest.mark.parametrize(
    "text", ["terns fly over the sea " * 350_000, "a" * 8_000_000, " " * 8_000_000, "e\u0301" * 2_600_000]
)
def test_a_text_of_eight_megabytes_for_a_model(
    stack: Stack, neighbour: Neighbour, attacker: str, text: str
) -> None:
    answers: list[int] = []

    def attack() -> None:
        with stack.http(key=attacker) as client:
            inputs = (text, [text[:4_000_000], text[4_000_000:]])
            answers.extend(client.post("/v1/embeddings", json={"input": one}).status_code for one in inputs)
            pair = {"query": text[:3_000_000], "documents": [text[3_000_000:6_000_000]]}
            answers.append(client.post("/v1/rerank", json=pair).status_code)
            answers.append(client.post("/v1/embeddings", json={"input": text * 4}).status_code)

    neighbour.unharmed(attack)
    assert answers[-1] == 413
    assert set(answers[:-1]) <= {200, 413}


def test_event_streams_by_the_hundred_and_their_end(
    stack: Stack, neighbour: Neighbour, attacker: str
) -> None:
    request = f"GET /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {attacker}\r\n\r\n".encode()
    statuses: list[bytes] = []
    with ExitStack() as left:
        streams = [left.enter_context(connect(stack)) for _ in range(150)]

        def attack() -> None:
            for one in streams:
                one.sendall(request)
            statuses.extend(one.recv(12)[9:] for one in streams)
            time.sleep(1)

        neighbour.unharmed(attack)
        assert (statuses.count(b"200"), statuses.count(b"429")) == (100, 50)
        with stack.http() as admin:
            assert (
                admin.delete(f"/api/v1/keys/{attacker[:8]}", params={"tenant": "attacker"}).status_code == 204
            )
        revoked_at = time.monotonic()
        for one, status in zip(streams, statuses, strict=True):
            if status == b"200":
                # The last piece of a chunked answer: it was ended, not cut.
                data = b""
                while not data.endswith(b"0\r\n\r\n"):
                    piece = one.recv(65536)
                    assert piece
                    data += piece
        assert time.monotonic() - revoked_at < scaled(10)
    with stack.http(key=attacker) as client:
        assert client.get("/api/v1/jobs").status_code == 401


def test_slow_connections_and_invented_methods(stack: Stack, neighbour: Neighbour) -> None:
    def series() -> int:
        return len(httpx.get(f"{stack.url}/metrics").text.splitlines())

    before = series()
    with ExitStack() as left:
        slow = [left.enter_context(connect(stack)) for _ in range(300)]
        for number, one in enumerate(slow):
            one.sendall(b"" if number % 3 else b"GET /healthz HTTP/1.1\r\nX-Slow: a")

        def attack() -> None:
            with httpx.Client(base_url=stack.url, timeout=scaled(120)) as client:
                for number in range(300):
                    assert client.request(f"BREW{number}", f"/{number}").status_code == 405
                    assert client.get(f"/{number}").status_code == 401

        neighbour.unharmed(attack)
        # A few for the routes that were called here for the first time, each with its buckets.
        assert series() < before + 150
        for one in slow:
            assert one.recv(65536).startswith(b"HTTP/1.1 408")
