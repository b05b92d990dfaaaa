"""The clients that people use, declared with @connection, against real servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from emberq.system import kept_open
from emberq.worker.job.scope import job_scope
from emberq.worker.resources import connections
from emberq.worker.resources.connections import close_connections, connection

#: Keeps its connections open between requests, as servers do.
SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(connections, "_opened", [])
    monkeypatch.setattr(kept_open, "_adopted", kept_open.KeptOpen())
    yield
    close_connections()


@pytest.fixture
def web_url() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        server.kill()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_pools_keep_what_they_open_in_a_job_and_close_it_with_the_horse(
    redis_url: str, database_url: str, web_url: str
) -> None:
    cache = connection(lambda: Redis.from_url(redis_url))
    database = connection(lambda: create_engine(database_url, pool_pre_ping=True))
    web = connection(httpx.Client)
    with job_scope():
        # What libraries open once for the process.
        httpx.get(web_url)
    before = open_descriptors()
    for _ in range(3):
        with job_scope() as scope:
            cache().set("a", 1)
            with database().connect() as open_connection:
                assert open_connection.execute(text("SELECT 1")).scalar() == 1
            assert web().get(web_url).text == "ok"
        assert scope.leaked == {}
        assert open_descriptors() == before + 3
    close_connections()
    assert open_descriptors() == before


def test_a_connection_not_given_back_to_its_pool_is_a_leak(database_url: str) -> None:
    database = connection(lambda: create_engine(database_url))
    with job_scope() as scope:
        engine: Engine = database()
        kept = engine.connect()
    assert scope.leaked == {"connections": 1}
    kept.close()


def test_a_connection_that_the_server_ended_is_opened_anew(database_url: str) -> None:
    address = database_url.replace("+psycopg", "")

    def answers(made: psycopg.Connection) -> object:
        return made.execute("SELECT 1")

    @connection(check=answers)
    def database() -> psycopg.Connection:
        return psycopg.connect(address, autocommit=True)

    with job_scope():
        first = database()
    with psycopg.connect(address) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [first.info.backend_pid])
    with job_scope() as scope:
        assert database() is not first
        assert database().execute("SELECT 2").fetchone() == (2,)
    assert first.closed
    assert scope.leaked == {}
