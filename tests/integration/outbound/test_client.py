"""The client for requests to other servers, against servers on this machine that misbehave."""

from __future__ import annotations

import contextlib
import gzip
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from emberq.outbound.addresses import AllowedTargets
from emberq.outbound.client import AnswerTooLarge, OutboundClient, TargetRefused
from tests.harness.raw_server import LOOPBACK, Answer, body, endlessly, redirect, serve

KILOBYTE = 1024
#: Longest time in seconds that a request with a deadline of half a second may take on a busy machine.
PATIENCE_SECONDS = 15.0


@contextlib.contextmanager
def client(*urls: str, **options: Any) -> Iterator[httpx.Client]:
    """Make a client that may reach the servers of these URLs."""
    allowed = options.pop("allowed", AllowedTargets()).with_servers(urls)
    with OutboundClient(allowed=allowed, **{"max_bytes": KILOBYTE, "total_seconds": 60.0, **options}) as made:
        yield made


def test_a_configured_server_answers() -> None:
    with serve(body(b"hello")) as server, client(server.url) as http:
        answer = http.get(server.url)
    assert answer.content == b"hello"
    assert b"accept-encoding: identity" in server.heads[0].lower()


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
        ),
        *(
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::]",
            "0.0.0.0",
            "0",
            "localhost.",
            "LOCALHOST",
        ),
        *("①②⑦.⓪.⓪.①", "127。0。0。1", "user@127.0.0.1", "user:secret@localhost"),
    ],
)
def test_no_spelling_of_loopback_is_reached(host: str) -> None:
    with serve(body(b"private"), host="127.0.0.1") as server, client() as http:
        with pytest.raises((httpx.ConnectError, httpx.InvalidURL)):
            http.get(f"http://{host}:{server.port}/")
        assert server.heads == []


def test_the_refusal_names_the_host_and_the_log_the_address() -> None:
    with (
        client(resolve=lambda _host, _port: ["10.9.8.7"]) as http,
        capture_logs() as logs,
        pytest.raises(TargetRefused) as refused,
    ):
        http.get("http://user:secret@internal.example/path")
    assert str(refused.value) == "The address of internal.example is not public"
    assert logs == [
        {
            "event": "outbound_refused",
            "log_level": "warning",
            "host": "internal.example",
            "port": 80,
            "address": "10.9.8.7",
        }
    ]


def test_a_name_with_one_private_address_is_refused() -> None:
    allowed = AllowedTargets.parse("127.0.0.2")
    with serve(body(b"private")) as server:
        addresses = ["127.0.0.2", LOOPBACK]
        with (
            client(allowed=allowed, resolve=lambda _host, _port: addresses) as http,
            pytest.raises(TargetRefused),
        ):
            http.get(f"http://both.example:{server.port}/")
        assert server.heads == []


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is Linux")
def test_a_second_answer_of_the_resolver_is_checked_as_the_first() -> None:
    """The name is resolved once per connection, and the address of this one answer is connected to."""
    answers = [["127.0.0.2"], [LOOPBACK]]
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    with (
        serve(body(b"allowed"), host="127.0.0.2") as server,
        serve(body(b"private"), port=server.port) as private,
    ):
        with client(allowed=AllowedTargets.parse("127.0.0.2"), resolve=resolve) as http:
            url = f"http://rebinding.example:{server.port}/"
            assert http.get(url).content == b"allowed"
            assert asked == ["rebinding.example"]
            with pytest.raises(TargetRefused):
                http.get(url)
        assert private.heads == []


def test_a_redirect_to_a_private_address_is_refused() -> None:
    with serve(body(b"private")) as private, serve(redirect(f"{private.url}/admin")) as server:
        with client(server.url, follow_redirects=True) as http, pytest.raises(TargetRefused):
            http.get(server.url)
        assert private.heads == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/"])
def test_a_redirect_to_another_scheme_is_refused(target: str) -> None:
    with (
        serve(redirect(target)) as server,
        client(server.url, follow_redirects=True) as http,
        pytest.raises(httpx.TransportError),
    ):
        http.get(server.url)


def test_redirects_are_followed_only_if_asked_for_and_end() -> None:
    with serve(redirect("/again")) as server:
        with client(server.url) as http:
            assert http.get(server.url).status_code == 302
        with client(server.url, follow_redirects=True) as http, pytest.raises(httpx.TooManyRedirects):
            http.get(server.url)
    assert len(server.heads) < 10


def test_a_redirect_to_another_server_gets_no_key() -> None:
    with (
        serve(body(b"there")) as other,
        serve(redirect(other.url)) as server,
        client(server.url, other.url, follow_redirects=True) as http,
    ):
        assert http.get(server.url, headers={"Authorization": "Bearer secret"}).content == b"there"
    assert b"Bearer secret" in server.heads[0]
    assert b"secret" not in other.heads[0]


def test_cookies_are_not_kept() -> None:
    with serve(body(b"", "Set-Cookie: a=b")) as server, client(server.url) as http:
        for _ in range(2):
            http.get(server.url)
    assert b"cookie" not in server.heads[1].lower()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(body(b"x" * (KILOBYTE + 1)), id="declared"),
        pytest.param(endlessly(CHUNKED, b"100\r\n" + b"x" * 256 + b"\r\n"), id="chunked"),
        pytest.param(endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 256), id="until the connection ends"),
        pytest.param(body(gzip.compress(b"0" * 10_000_000)[:900], "Content-Encoding: gzip"), id="gzip bomb"),
        pytest.param(body(b"x", "Content-Encoding: br, zstd"), id="other compression"),
    ],
)
def test_a_body_over_the_limit_is_not_read(answer: Answer) -> None:
    with serve(answer) as server, client(server.url) as http, pytest.raises(AnswerTooLarge):
        http.get(server.url)


def test_a_body_of_the_limit_is_read() -> None:
    with serve(body(b"x" * KILOBYTE)) as server, client(server.url) as http:
        assert len(http.get(server.url).content) == KILOBYTE


def test_an_endless_head_is_not_read() -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    with (
        serve(endlessly(head, b"X-More: " + b"x" * 1000 + b"\r\n")) as server,
        client(server.url) as http,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        http.get(server.url)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(endlessly(b"", b"", 0.05), id="silent"),
        pytest.param(endlessly(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05), id="slow head"),
        pytest.param(endlessly(CHUNKED, b"1\r\nx\r\n", 0.05), id="slow body"),
        pytest.param(
            endlessly(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05), id="100"
        ),
    ],
)
def test_a_slow_answer_ends_at_the_deadline(answer: Answer) -> None:
    stop = threading.Event()

    def close_when_stopped(connection: socket.socket) -> None:
        stop.wait()
        connection.close()

    def until_stopped(connection: socket.socket) -> None:
        watch = threading.Thread(target=close_when_stopped, args=(connection,))
        watch.start()
        try:
            answer(connection)
        finally:
            watch.join()

    started_at = time.monotonic()
    with serve(until_stopped) as server, client(server.url, total_seconds=0.5) as http:
        try:
            with pytest.raises(httpx.ReadTimeout):
                http.get(server.url)
            assert time.monotonic() - started_at < PATIENCE_SECONDS
        finally:
            stop.set()


def test_redirects_share_one_deadline() -> None:
    def slowly(connection: socket.socket) -> None:
        time.sleep(0.3)
        redirect("/again")(connection)

    with (
        serve(slowly) as server,
        client(server.url, total_seconds=0.7, follow_redirects=True) as http,
        pytest.raises(httpx.TimeoutException),
    ):
        http.get(server.url)
    assert len(server.heads) <= 3


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(body(b"proxied")) as proxy, serve(body(b"direct")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with client(server.url) as http:
            assert http.get(server.url).content == b"direct"
        assert proxy.heads == []
