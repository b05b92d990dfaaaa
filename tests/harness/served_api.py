"""The API of this process behind a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn

from emberq.api.app import make_app, make_server, open_listener
from tests.harness.eventually import LIMIT_SECONDS, eventually

__all__ = ["ServedApi", "served_api"]


@dataclass(frozen=True)
class ServedApi:
    """Where it listens, and its server."""

    host: str
    port: int
    server: uvicorn.Server

    def http(self, key: str = "") -> httpx.Client:
        """Return a client, with a key if one is given."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(
            base_url=f"http://{self.host}:{self.port}",
            headers=headers,
            timeout=LIMIT_SECONDS,
            trust_env=False,
        )


@contextmanager
def served_api() -> Iterator[ServedApi]:
    """Serve the API on the services of this process, without maintenance."""
    listener = open_listener("127.0.0.1", 0)
    server = make_server(make_app(maintenance=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        eventually(lambda: server.started)
        host, port = listener.getsockname()
        yield ServedApi(host, port, server)
    finally:
        server.should_exit = True
        thread.join(LIMIT_SECONDS)
        listener.close()
