"""A flood next door, pauses and bulk operations, from outside, with real workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from statistics import median
from typing import Any

import httpx
import pytest

from emberq.store.admin.api_keys import create_key
from tests.harness.eventually import eventually
from tests.harness.stack import Stack

#: Seconds of the machine's own noise: HTTP, the admission tick, a busy neighbour.
NOISE_SECONDS = 2.0


def text_of(name: str, sentences: int) -> bytes:
    """A text no other file shares a sentence with, so that no vector is reused."""
    return "\n\n".join(
        f"{name} {n}: {n * 37 % 1009} cranes crossed the lake at hour {n * 61 % 997}."
        for n in range(sentences)
    ).encode()


def seconds_between(job: dict[str, Any], begin: str, end: str) -> float:
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job[begin])).total_seconds()


@pytest.fixture
def stack(own_stack: Callable[..., Stack]) -> Stack:
    return own_stack(workers=2)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.http() as made:
        made.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        made.put("/api/v1/settings/rag_chunk_overlap", json={"value": 0}).raise_for_status()
        made.put("/api/v1/settings/rag_chunk_size", json={"value": 24}).raise_for_status()
        yield made


@pytest.fixture
def small(stack: Stack) -> Iterator[httpx.Client]:
    """Another tenant."""
    with stack.database() as database, database.system_transaction() as connection:
        key = create_key(connection, name="small", tenant="small", scopes=["read", "write"])
    with stack.http(key=key) as made:
        made.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        yield made


def wait_of_one(stack: Stack, client: httpx.Client, name: str) -> float:
    job = stack.upload(client, name, text_of(name, 5)).json()["job"]
    return seconds_between(stack.wait(client, job["id"]), "created_at", "started_at")


@pytest.mark.slow
def test_a_flood_next_door_costs_at_most_two_job_lengths(
    stack: Stack, client: httpx.Client, small: httpx.Client
) -> None:
    alone = [wait_of_one(stack, small, f"alone{n}.txt") for n in range(5)]
    for n in range(80):
        stack.upload(client, f"flood{n}.txt", text_of(f"flood{n}", 60)).raise_for_status()
    during = [wait_of_one(stack, small, f"during{n}.txt") for n in range(10)]
    jobs = client.get("/api/v1/jobs", params={"limit": 200}).json()["items"]
    lengths = [seconds_between(job, "started_at", "ended_at") for job in jobs if job["state"] == "completed"]
    left = [job for job in jobs if job["state"] == "pending"]
    allowed = max(alone) + 2 * max(lengths) + NOISE_SECONDS
    backlog = len(left) * median(lengths) / stack.workers
    assert backlog > allowed, f"the flood was too small to show anything: {backlog:.1f} s were left"
    assert max(during) <= allowed
    assert all(job["waiting_reason"].startswith("behind_") for job in left)


def test_pause_and_bulk_operations_from_the_command_line(stack: Stack, client: httpx.Client) -> None:
    paused = json.loads(stack.cli("jobs", "pause", "collection", "docs", "--json").stdout)
    assert paused["items"][0]["name"] == "docs"
    for n in range(3):
        stack.upload(client, f"{n}.txt", text_of(str(n), 3)).raise_for_status()
    bad = stack.upload(client, "bad.pdf", b"%PDF-1.7 cut short", priority="bulk").json()["job"]["id"]
    # A file that came later is processed meanwhile, in a collection that is not paused.
    client.post("/api/v1/collections", json={"name": "others"}).raise_for_status()
    other = stack.upload(client, "other.txt", text_of("other", 3), "others").json()["job"]["id"]
    assert stack.wait(client, other)["state"] == "completed"
    jobs = json.loads(stack.cli("jobs", "list", "--reason", "paused", "--json").stdout)
    assert {(job["state"], job["waiting_reason"]) for job in jobs} == {("pending", "paused")}
    assert len(jobs) == 4
    assert "4" in stack.cli("jobs", "pauses").stdout
    stack.cli("jobs", "pause", "collection", expect=2)
    stack.cli("jobs", "pause", "collection", "nowhere", expect=1)

    assert json.loads(stack.cli("jobs", "resume", "collection", "docs", "--json").stdout) == {"resumed": True}
    assert stack.wait(client, bad)["error"]["code"] == "corrupt_file"
    for job in jobs:
        stack.wait(client, job["id"])

    retried = json.loads(stack.cli("jobs", "retry", "--error-code", "corrupt_file", "--json").stdout)
    assert retried == {"retried": 1}
    stack.wait(client, bad)
    assert json.loads(stack.cli("jobs", "retry", "--quarantined", "--json").stdout) == {"retried": 0}
    assert client.post("/api/v1/jobs/requeue-quarantined").json() == {"retried": 0}
    assert client.post("/api/v1/jobs/retry", json={}).status_code == 422

    stack.cli("jobs", "pause", "queue")
    stack.upload(client, "late.txt", text_of("late", 3)).raise_for_status()
    asked = stack.cli("jobs", "cancel", "-c", "docs", expect=1)
    assert "Cancel 1 waiting and 0 running jobs of docs?" in asked.stderr
    done = json.loads(stack.cli("jobs", "cancel", "-c", "docs", "--yes", "--json").stdout)
    assert done == {"cancelled": 1, "stopping": 0}
    stack.cli("jobs", "resume", "queue")

    assert json.loads(stack.cli("jobs", "stuck", "--json").stdout) == []
    assert json.loads(stack.cli("jobs", "purge", "--older-than", "30d", "--yes", "--json").stdout) == {
        "purged": 0
    }
    stack.cli("jobs", "purge", "--older-than", "soon", "--yes", expect=2)


def test_what_concerns_other_tenants_needs_an_admin(small: httpx.Client) -> None:
    for body in ({"scope": "queue"}, {"scope": "tenant", "name": "default"}):
        assert small.post("/api/v1/pauses", json=body).status_code == 403
    assert small.get("/api/v1/jobs", params={"tenant": "default"}).status_code == 403
    assert small.post("/api/v1/pauses", json={"scope": "tenant"}).status_code == 201
    [shown] = small.get("/api/v1/pauses").json()["items"]
    assert (shown["scope"], shown["name"]) == ("tenant", "small")
    assert small.delete("/api/v1/pauses", params={"scope": "tenant"}).json() == {"resumed": True}


def test_a_priority_that_is_none_is_refused_and_too_many_uploads_come_again_later(
    stack: Stack, client: httpx.Client
) -> None:
    for priority in ("urgent", "-1", "1000", "1.5"):
        answer = stack.upload(client, "a.txt", b"A text.", priority=priority)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    client.post("/api/v1/pauses", json={"scope": "queue"}).raise_for_status()
    client.put("/api/v1/settings/tenant_max_pending", json={"value": 2}).raise_for_status()
    answer = eventually(
        lambda: stack.upload(client, "a.txt", text_of("a", 3)), lambda answer: answer.status_code != 202
    )
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) >= 1
