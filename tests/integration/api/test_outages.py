"""The API while PostgreSQL, Redis or the blob store is away: 503 and come again, or an acknowledgement."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import text

from emberq.api.app import make_app, open_listener
from emberq.config.environment import Environment
from emberq.dispatch.admit import admit
from emberq.dispatch.recover import sweep
from emberq.dispatch.tickets import open_queue
from emberq.errors import StorageUnavailable
from emberq.redis_pools import close_redis_pools
from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key
from emberq.store.database import Database
from emberq.store.files.blobs import BlobStore
from emberq.store.services import Services, configure_services
from emberq.testing.proxy import TcpProxy
from emberq.testing.valkey import ValkeyServer
from tests.harness.eventually import eventually, scaled


def api_of(services: Services) -> TestClient:
    with services.database.system_transaction() as connection:
        key = create_key(connection, name="test", tenant=DEFAULT_TENANT, scopes=["admin"])
    client = TestClient(make_app(maintenance=False), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {key}"
    assert client.post("/api/v1/collections", json={"name": "docs"}).status_code == 201
    return client


@pytest.fixture
def api(services: Services) -> TestClient:
    return api_of(services)


@pytest.fixture
def admin(services: Services) -> Iterator[Callable[[str], None]]:
    """Do something to the database from outside."""
    database = Database(services.database.url)

    def execute(statement: str) -> None:
        with database.system_transaction() as connection:
            connection.execute(text("SET TRANSACTION READ WRITE"))
            connection.execute(text(statement))

    yield execute
    database.close()


def upload(api: TestClient, content: bytes = b"Terns fly far.") -> Any:
    return api.post("/api/v1/collections/docs/files", files={"file": ("a.txt", content)})


def away(answer: Any, code: str = "database_unavailable") -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (503, code), body
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    return body


def files_of(services: Services) -> int:
    with services.database.system_transaction() as connection:
        return int(connection.execute(text("SELECT count(*) FROM files")).scalar_one())


def ready(api: TestClient) -> tuple[int, dict[str, str]]:
    answer = api.get("/readyz")
    assert api.get("/healthz").status_code == 200
    return answer.status_code, answer.json()["checks"]


def test_ended_backends_are_replaced_without_the_client_noticing(
    services: Services, api: TestClient, admin: Callable[[str], None]
) -> None:
    for _ in range(3):
        admin(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert upload(api).status_code == 202
    assert files_of(services) == 3


def test_a_database_that_takes_no_writes_is_told_and_its_end_needs_no_restart(
    services: Services, api: TestClient, admin: Callable[[str], None]
) -> None:
    name = services.database.url.split("/")[-1].split("?")[0]
    admin(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    services.database.close()
    away(upload(api))
    assert ready(api) == (
        503,
        {"database": "read_only", "redis": "ok", "queue": "ok", "blobs": "ok", "workers": "unknown"},
    )
    assert api.get("/api/v1/collections").status_code == 200
    admin(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    # The sessions that began before are dropped by whoever finds out first.
    assert [ready(api)[0] for _ in range(2)] == [503, 200]
    assert upload(api).status_code == 202
    assert files_of(services) == 1


#: Raised by a trigger, because the server's own disk cannot be filled without harm to other tests.
REFUSALS = {"disk full": "53100", "out of memory": "53200", "lock not to be had": "55P03"}


@pytest.mark.parametrize("sqlstate", REFUSALS.values(), ids=REFUSALS)
def test_what_the_server_cannot_do_at_the_moment_acknowledges_nothing(
    services: Services, api: TestClient, admin: Callable[[str], None], sqlstate: str
) -> None:
    admin(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END $$"
    )
    admin("CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()")
    away(upload(api))
    assert files_of(services) == 0
    admin("DROP TRIGGER refuse ON jobs")
    assert upload(api).status_code == 202


def test_two_transactions_in_a_circle_are_no_internal_error(
    services: Services, api: TestClient, admin: Callable[[str], None]
) -> None:
    admin(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'circle' USING ERRCODE = 'deadlock_detected'; END $$"
    )
    admin("CREATE TRIGGER refuse BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION refuse()")
    away(upload(api))


def test_a_pool_whose_connections_are_all_in_use_is_told(
    services: Services, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.database.engine.pool, "_timeout", 0.2)
    held = [services.database.engine.connect() for _ in range(8)]
    try:
        away(upload(api))
        assert ready(api) == (
            503,
            {
                "database": "database_unavailable",
                "redis": "ok",
                "queue": "ok",
                "blobs": "ok",
                "workers": "unknown",
            },
        )
    finally:
        for connection in held:
            connection.close()
    assert upload(api).status_code == 202


def test_too_many_connections_to_the_server_are_told(
    services: Services, api: TestClient, admin: Callable[[str], None]
) -> None:
    name = services.database.url.split("/")[-1].split("?")[0]
    # The administrator's own connection is there already.
    admin(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    services.database.close()
    away(upload(api))
    admin(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    assert upload(api).status_code == 202


def test_a_text_beyond_a_limit_of_postgresql_is_not_an_outage(services: Services) -> None:
    from sqlalchemy.exc import OperationalError

    # "string is too long for tsvector": waiting would not make it shorter.
    with (
        pytest.raises(OperationalError, match="tsvector"),
        services.database.system_transaction() as connection,
    ):
        connection.execute(
            text(
                "SELECT to_tsvector('simple', string_agg(md5(n::text), ' ')) FROM generate_series(1, 60000) n"
            )
        )


@pytest.fixture
def full_disk(services: Services, tmp_path: Path) -> Iterator[Path]:
    """Let the blob store lie on a file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    environment = Environment(data_dir=tmp_path, blob_url=f"file://{place}")
    configure_services(environment, database_url=services.database.url, redis_url=services.redis_url)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(file: io.FileIO) -> None:
    """Write until there is no space left."""
    blocks = iter(partial(file.write, bytes(4096)), 0)
    with pytest.raises(OSError, match="No space"):
        deque(blocks, maxlen=0)


def drafts(root: Path) -> list[Path]:
    return list((root / "drafts").iterdir())


def test_a_full_disk_is_told_and_leaves_nothing_behind(services: Services, full_disk: Path) -> None:
    from emberq.store.services import get_services

    api = api_of(get_services())
    assert upload(api).status_code == 202
    body = away(upload(api, os.urandom(3 << 20)), "internal_error")
    assert "No space left" in body["detail"]
    assert "full" in body["hint"]
    assert str(full_disk) not in str(body)
    assert drafts(full_disk) == []
    filler = full_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        fill(file)
    status, checks = ready(api)
    assert (status, checks["database"]) == (503, "ok")
    assert "No space left" in checks["blobs"]
    filler.unlink()
    assert upload(api, b"There is room again.").status_code == 202
    assert files_of(services) == 2
    get_services().database.close()


def test_a_blob_store_that_is_not_mounted_fails_no_file_for_good(services: Services, api: TestClient) -> None:
    uploaded = upload(api).json()["file"]["id"]
    aside = services.blobs.root.with_name("unmounted")
    services.blobs.root.rename(aside)
    services.blobs.root.mkdir()
    away(api.get(f"/api/v1/files/{uploaded}/content"), "internal_error")
    away(upload(api), "internal_error")
    services.blobs.root.rmdir()
    aside.rename(services.blobs.root)
    assert api.get(f"/api/v1/files/{uploaded}/content").content == b"Terns fly far."
    services.blobs.path_of(api.get(f"/api/v1/files/{uploaded}").json()["sha256"]).unlink()
    assert api.get(f"/api/v1/files/{uploaded}/content").json()["code"] == "blob_missing"


def test_bytes_that_had_vanished_are_there_when_the_same_upload_is_acknowledged_again(
    services: Services, api: TestClient
) -> None:
    first = upload(api).json()["file"]
    services.blobs.path_of(first["sha256"]).unlink()
    second = upload(api).json()["file"]
    for file in (first, second):
        assert api.get(f"/api/v1/files/{file['id']}/content").content == b"Terns fly far."


@pytest.fixture
def served(api: TestClient) -> Iterator[tuple[str, int, str]]:
    """The application behind a real socket: host, port and the header with the key."""
    listener = open_listener("127.0.0.1", 0)
    host, port = listener.getsockname()
    server = uvicorn.Server(uvicorn.Config(make_app(maintenance=False), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield host, port, api.headers["Authorization"]
    server.should_exit = True
    thread.join(20)
    listener.close()


def test_a_client_that_hangs_up_in_the_middle_leaves_neither_file_nor_draft(
    services: Services, served: tuple[str, int, str]
) -> None:
    host, port, key = served
    head = (
        f"POST /api/v1/collections/docs/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    )
    with socket.create_connection((host, port)) as client:
        client.sendall(head.encode() + bytes(300_000))
        eventually(lambda: [path.stat().st_size for path in drafts(services.blobs.root)] == [300_000])
    eventually(lambda: drafts(services.blobs.root) == [])
    assert files_of(services) == 0
    assert list(services.blobs.root.glob("??/*")) == []


def waiting_tickets(services: Services) -> int:
    return int(open_queue(services.worker_redis()).count)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def proxied(
    database_url: str, valkey: ValkeyServer, tmp_path: Path
) -> Iterator[tuple[Services, TestClient, TcpProxy]]:
    """An API whose Redis is reached through a wire that can be cut."""
    with TcpProxy(("127.0.0.1", valkey.port)) as proxy:
        services = configure_services(
            Environment(data_dir=tmp_path),
            database_url=database_url,
            redis_url=f"redis://127.0.0.1:{proxy.port}/0",
        )
        yield services, api_of(services), proxy
        services.database.close()
        close_redis_pools()


@pytest.mark.parametrize("fault", ["refused", "silent"])
def test_without_redis_uploads_are_acknowledged_and_rung_for_later(
    proxied: tuple[Services, TestClient, TcpProxy], fault: str
) -> None:
    services, api, proxy = proxied
    assert ready(api)[0] == 200
    # A silent one keeps its connections open, old and new, and never says a word on them.
    proxy.cut() if fault == "refused" else proxy.half_open()
    began_at = time.monotonic()
    for _ in range(3):
        assert upload(api).status_code == 202
    # No request hangs on a dead socket: a time-out of two seconds for the one ticket, and one for the check.
    assert ready(api) == (
        503,
        {
            "database": "ok",
            "redis": "redis_unavailable",
            "queue": "redis_unavailable",
            "blobs": "ok",
            "workers": "none alive",
        },
    )
    assert time.monotonic() - began_at < scaled(60)
    proxy.heal()
    age_tickets(services)
    assert sweep(services, job_timeout_seconds=60) == 1
    assert waiting_tickets(services) == 1


def age_tickets(services: Services) -> None:
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET queued_at = queued_at - interval '1 minute'"))


def test_a_redis_without_memory_delays_tickets_and_loses_none(
    proxied: tuple[Services, TestClient, TcpProxy], valkey: ValkeyServer
) -> None:
    services, api, _ = proxied
    with Redis(port=valkey.port) as server:
        server.config_set("maxmemory-policy", "noeviction")
        server.config_set("maxmemory", "1")
        assert upload(api).status_code == 202
        age_tickets(services)
        assert waiting_tickets(services) == 0
        server.config_set("maxmemory", "0")
    assert sweep(services, job_timeout_seconds=60) == 1
    assert waiting_tickets(services) == 1


def test_a_restart_without_persistence_and_a_flush_lose_no_ticket_for_longer_than_a_sweep(
    proxied: tuple[Services, TestClient, TcpProxy], valkey: ValkeyServer
) -> None:
    services, api, _ = proxied

    def restart() -> None:
        valkey.kill()
        valkey.start()

    def flush() -> None:
        with Redis(port=valkey.port) as server:
            server.flushall()

    assert upload(api).status_code == 202
    for vanish in (restart, flush):
        assert waiting_tickets(services) == 1
        vanish()
        assert waiting_tickets(services) == 0
        age_tickets(services)
        assert sweep(services, job_timeout_seconds=60) == 1
    # A second sweep, as of another host, rings for nothing that is there.
    assert sweep(services, job_timeout_seconds=60) == 0
    assert admit(services, job_timeout_seconds=60) == 0
    assert waiting_tickets(services) == 1


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        BlobStore(tmp_path / "file" / "blobs")
