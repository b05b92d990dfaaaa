"""PostgreSQL and Redis go away under load and come back: every file completes, and no attempt is burnt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from redis import Redis
from sqlalchemy import make_url, text

from emberq.embedded import Engines
from emberq.store.admin.hosts import LEASE_SECONDS
from emberq.store.database import Database
from emberq.testing.proxy import TcpProxy
from emberq.testing.valkey import ValkeyServer
from tests.acceptance.test_kills import long_text
from tests.harness.eventually import eventually, scaled
from tests.harness.paths import EMBERQ
from tests.harness.processes import RunningProgram
from tests.harness.stack import Stack, nothing_stored

#: Seconds of an outage, longer than a lease: by the leases alone all hosts would be dead after it.
LONG_SECONDS = LEASE_SECONDS + 4


@dataclass
class Wired:
    """An installation whose engines are elsewhere, on wires that can be cut."""

    stack: Stack
    postgres: TcpProxy
    redis: TcpProxy
    valkey: ValkeyServer
    database: Database

    def execute(self, *statements: str) -> None:
        """Do something to the database from outside."""
        with self.database.system_transaction() as connection:
            for statement in statements:
                connection.execute(text(statement))


@pytest.fixture
def wired(
    engines: Engines, new_database: Callable[[], str], own_stack: Callable[..., Stack], tmp_path: Path
) -> Iterator[Wired]:
    url = make_url(new_database())
    socket_directory = parse_qs(urlsplit(engines.database_url).query)["host"][0]
    with ExitStack() as exits:
        valkey = exits.enter_context(ValkeyServer(tmp_path / "valkey"))
        postgres = exits.enter_context(TcpProxy(f"{socket_directory}/.s.PGSQL.5432"))
        redis = exits.enter_context(TcpProxy(("127.0.0.1", valkey.port)))
        through = url.set(host="127.0.0.1", port=postgres.port).difference_update_query(["host"])
        environment = {
            "EMBERQ_DATABASE_URL": through.render_as_string(hide_password=False),
            "EMBERQ_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        }
        stack = own_stack(workers=2, environment=environment)
        small_chunks(stack)
        database = Database(url.render_as_string(hide_password=False))
        yield Wired(stack, postgres, redis, valkey, database)
        database.close()
        stack.stop()


def small_chunks(stack: Stack) -> None:
    """Make every stage last long enough to be hit."""
    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        client.put("/api/v1/settings/rag_chunk_overlap", json={"value": 0}).raise_for_status()
        client.put("/api/v1/settings/rag_chunk_size", json={"value": 24}).raise_for_status()


def upload_some(stack: Stack, client: httpx.Client, *, first: int = 0, count: int = 6) -> list[str]:
    return [
        stack.upload(client, f"n{number}.txt", long_text(300 + number)).raise_for_status().json()["job"]["id"]
        for number in range(first, first + count)
    ]


def all_complete(stack: Stack, client: httpx.Client, jobs: list[str], *, attempt: int | None = 1) -> None:
    """Every job completed, in the one attempt it needed, and its chunks are there once."""
    ended = [stack.wait(client, job_id) for job_id in jobs]
    assert [(job["state"], job.get("error")) for job in ended] == [("completed", None)] * len(jobs)
    if attempt is not None:
        assert [job["attempt"] for job in ended] == [attempt] * len(jobs)
    items: list[dict[str, Any]] = client.get("/api/v1/collections/docs/files").json()["items"]
    assert len(items) == len(jobs)
    assert client.get("/api/v1/stats").json()["chunks"] == sum(job["progress"]["total"] for job in ended)


def without_database(client: httpx.Client, stack: Stack) -> None:
    """The process answers, says that it is not ready, and takes nothing that it could not keep."""
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "database_unavailable")
    refused = stack.upload(client, "refused.txt", b"Nobody keeps this.")
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) > 0


def test_postgresql_away_for_longer_than_a_lease_costs_time_and_no_attempt(wired: Wired) -> None:
    stack = wired.stack
    with stack.http() as client:
        jobs = upload_some(stack, client)
        stack.wait_for_event(event="stage_started", stage="embedding")
        wired.postgres.cut()
        without_database(client, stack)
        time.sleep(LONG_SECONDS)
        wired.postgres.heal()
        all_complete(stack, client, jobs)
    assert not [one for one in stack.events() if one["event"] in ("job_reaped", "attempt_failed")]


def test_a_full_disk_of_postgresql_is_waited_out(wired: Wired) -> None:
    # A trigger says what the server would: it is shared with other tests, and so is its disk.
    wired.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON chunks FOR EACH STATEMENT EXECUTE FUNCTION full_disk()",
    )
    stack = wired.stack
    with stack.http() as client:
        jobs = upload_some(stack, client, count=3)
        stack.wait_for_event(event="retry_scheduled", operation="emberq.pipeline.process._commit", retry=4)
        assert client.get("/api/v1/stats").json()["chunks"] == 0
        wired.execute("DROP TRIGGER full_disk ON chunks")
        all_complete(stack, client, jobs)


@pytest.mark.parametrize("victim", ["horse", "worker"])
def test_a_process_that_dies_while_postgresql_is_away_leaves_no_job_behind(wired: Wired, victim: str) -> None:
    stack = wired.stack
    with stack.http() as client:
        with nothing_stored(wired.database):
            job_id = stack.upload(client, "long.txt", long_text(400)).json()["job"]["id"]
            started = stack.wait_for_event(event="job_started", attempt=1)
            stack.wait_for_event(event="stage_started", stage="embedding")
            worker = next(one for one in client.get("/api/v1/workers").json()["items"] if one["ticket"])
            wired.postgres.cut()
            os.kill(started["horse_pid"] if victim == "horse" else worker["pid"], signal.SIGKILL)
        time.sleep(LONG_SECONDS)
        wired.postgres.heal()
        job = stack.wait(client, job_id)
    assert (job["state"], job["attempt"]) == ("completed", 2)


def test_a_crash_of_postgresql_costs_time_and_no_attempt(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(workers=2)
    small_chunks(stack)
    postmaster = stack.data_dir / "postgres" / "data" / "postmaster.pid"
    with stack.http() as client:
        jobs = upload_some(stack, client)
        for _ in range(2):
            stack.wait_for_event(event="stage_started", stage="embedding")
            pid = int(postmaster.read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL)
            stack.wait_for_event(event="engines_restarting")
            wait_until_ready(client)
        all_complete(stack, client, jobs)


def wait_until_ready(client: httpx.Client) -> None:
    eventually(lambda: client.get("/readyz").status_code, lambda status: status == 200)


def test_a_redis_that_restarts_without_its_data_loses_no_file(wired: Wired) -> None:
    stack = wired.stack
    with stack.http() as client:
        jobs = upload_some(stack, client)
        stack.wait_for_event(event="stage_started", stage="embedding")
        wired.valkey.kill()
        jobs += upload_some(stack, client, first=6, count=2)
        assert client.get("/readyz").json()["checks"]["redis"] == "redis_unavailable"
        wired.valkey.start()
        all_complete(stack, client, jobs)


@pytest.mark.parametrize("fault", ["refused", "full"])
def test_a_job_that_runs_does_not_care_whether_redis_is_there(wired: Wired, fault: str) -> None:
    stack = wired.stack
    with stack.http() as client, Redis(port=wired.valkey.port) as server:
        with nothing_stored(wired.database):
            jobs = [stack.upload(client, "long.txt", long_text(400)).json()["job"]["id"]]
            stack.wait_for_event(event="stage_started", stage="embedding")
            if fault == "refused":
                wired.redis.cut()
            else:
                server.config_set("maxmemory", "1")
            # Longer than RQ's heartbeats of a running job, which nobody can be told of, are apart.
            time.sleep(15)
            job = client.get(f"/api/v1/jobs/{jobs[0]}").json()
            assert (job["state"], job["attempt"]) == ("processing", 1)
        wired.redis.heal()
        server.config_set("maxmemory", "0")
        jobs += upload_some(stack, client, first=1, count=2)
        all_complete(stack, client, jobs)
    assert not [one for one in stack.events() if one["event"] in ("attempt_lost", "job_reaped")]


def test_a_long_outage_of_redis_ends_no_host(wired: Wired) -> None:
    stack = wired.stack
    with stack.http() as client:
        jobs = upload_some(stack, client, count=3)
        stack.wait_for_event(event="stage_started", stage="embedding")
        wired.redis.cut()
        # Each slot would by now have died and been started again ten times over.
        time.sleep(40)
        wired.redis.heal()
        all_complete(stack, client, jobs)
        deaths = [one for one in stack.events() if one["event"] == "process_died"]
        assert len(deaths) <= 4
        assert stack.is_running


def test_a_redis_without_memory_loses_no_file(wired: Wired) -> None:
    stack = wired.stack
    with stack.http() as client, Redis(port=wired.valkey.port) as server:
        jobs = upload_some(stack, client, count=3)
        stack.wait_for_event(event="stage_started", stage="embedding")
        server.config_set("maxmemory-policy", "noeviction")
        server.config_set("maxmemory", "1")
        jobs += upload_some(stack, client, first=3, count=3)
        time.sleep(LONG_SECONDS)
        server.config_set("maxmemory", "0")
        all_complete(stack, client, jobs)
        assert stack.is_running


def test_a_redis_that_falls_silent_holds_up_nothing_but_its_tickets(wired: Wired) -> None:
    stack = wired.stack
    with stack.http() as client:
        jobs = upload_some(stack, client)
        stack.wait_for_event(event="stage_started", stage="embedding")
        wired.redis.half_open()
        began_at = time.monotonic()
        jobs += upload_some(stack, client, first=6, count=2)
        # Without a time limit they would wait until the wire is healed.
        assert time.monotonic() - began_at < scaled(60)
        # The host goes on renewing its lease while it waits for a silent socket.
        leases: set[Any] = set()

        def renewed() -> int:
            leases.update(lease_ends(wired))
            return len(leases)

        eventually(renewed, lambda count: count > 5)
        wired.redis.heal()
        all_complete(stack, client, jobs)


def lease_ends(wired: Wired) -> list[Any]:
    with wired.database.system_transaction() as connection:
        return list(connection.execute(text("SELECT lease_until FROM hosts")).scalars())


def test_the_death_of_the_primary_redis_loses_no_file(
    own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    with ExitStack() as exits:
        primary = exits.enter_context(ValkeyServer(tmp_path / "primary"))
        replica = exits.enter_context(
            ValkeyServer(tmp_path / "replica", options={"replicaof": f"127.0.0.1 {primary.port}"})
        )
        lines = [
            f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 3000",
        ]
        sentinel = exits.enter_context(ValkeyServer(tmp_path / "sentinel", sentinel="\n".join(lines)))
        with Redis(port=sentinel.port, decode_responses=True) as watcher:
            eventually(lambda: watcher.sentinel_slaves("mymaster"))
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster/0"
        stack = own_stack(workers=2, environment={"EMBERQ_REDIS_URL": url})
        small_chunks(stack)
        with stack.http() as client:
            jobs = upload_some(stack, client)
            stack.wait_for_event(event="stage_started", stage="embedding")
            primary.kill()
            jobs += upload_some(stack, client, first=6, count=2)
            all_complete(stack, client, jobs)
        with Redis(port=replica.port) as promoted:
            assert promoted.info("replication")["role"] == "master"
        stack.stop()


def test_ingest_waits_for_postgresql_also_at_its_first_request(wired: Wired, tmp_path: Path) -> None:
    (tmp_path / "wader.txt").write_text("Godwits probe the mud.")
    environment = {**os.environ, "EMBERQ_URL": wired.stack.url, "EMBERQ_API_KEY": wired.stack.key}
    command = [EMBERQ, "ingest", str(tmp_path / "wader.txt"), "-c", "waders"]
    # So that the key is known while the database is away.
    wired.stack.cli("collections", "list")
    wired.postgres.cut()
    with RunningProgram(command, log=tmp_path / "ingest.log", environment=environment) as ingest:
        ingest.wait_for_print(r"Trying again for up to")
        wired.postgres.heal()
        assert ingest.wait() == 0
    assert "1 completed" in ingest.printed
