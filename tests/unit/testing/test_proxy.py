from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from emberq.testing.proxy import TcpProxy
from tests.harness.eventually import scaled


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with TcpProxy(("127.0.0.1", int(server.server_address[1]))) as running:
            yield running
        server.shutdown()


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    received = b""
    while len(received) < len(data) and (part := client.recv(65536)):
        received += part
    return received


def test_bytes_arrive_in_order_and_unchanged(proxy: TcpProxy) -> None:
    data = bytes(range(256)) * 400
    with connect(proxy) as client:
        assert exchange(client, data) == data
        assert (proxy.accepted, proxy.open_connections) == (1, 1)


def test_a_delay_is_paid_once_each_way(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.delay(0.15)
        started = time.monotonic()
        assert exchange(client, b"x") == b"x"
        assert 0.3 <= time.monotonic() - started < scaled(30)


def test_a_cut_resets_and_refuses_until_healed(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"x")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as client:
        assert exchange(client, b"y") == b"y"


def test_a_half_open_connection_says_nothing_and_stays(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.half_open()
        client.settimeout(0.3)
        client.sendall(b"x")
        with pytest.raises(TimeoutError):
            client.recv(1)
        with connect(proxy) as another:
            another.sendall(b"x")
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_one_answer_is_swallowed_and_the_next_connection_works(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.swallow_answers(once=True)
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        assert exchange(client, b"y") == b"y"


def test_a_target_that_is_away_looks_like_a_reset() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    # The reset may come before the connection is told to stand, or after.
    with (
        TcpProxy(("127.0.0.1", port)) as proxy,
        pytest.raises(ConnectionResetError),
        connect(proxy) as client,
    ):
        client.recv(1)
