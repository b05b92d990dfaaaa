"""kill -9 of a horse in every stage, of everything at once; FLUSHALL: nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.harness.processes import send
from tests.harness.stack import Stack

BIRDS = [
    "storks",
    "herons",
    "ibises",
    "spoonbills",
    "flamingos",
    "pelicans",
    "cormorants",
    "gannets",
    "boobies",
    "darters",
]


def long_text(sentences: int) -> bytes:
    """A text whose every sentence is different, so that no vector is reused."""
    return "\n\n".join(
        f"Note {n}: {BIRDS[n % 10]} were counted {n * 37 % 1009} times near lake {n * 61 % 997}."
        for n in range(sentences)
    ).encode()


def chunks_cover_the_text_once(client: httpx.Client, file_id: str, sentences: int) -> None:
    """Exactly one version of the chunks is there: as many as the job said, no sentence twice."""
    stats = client.get("/api/v1/stats").json()
    job = client.get("/api/v1/jobs", params={"limit": 1}).json()["items"][0]
    assert stats["chunks"] == job["progress"]["total"]
    text = client.get(f"/api/v1/files/{file_id}/text").text
    assert text.count("Note ") == sentences


@pytest.fixture
def stack(own_stack: Callable[..., Stack]) -> Stack:
    made = own_stack(workers=1)
    with made.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        # Small chunks make every stage last long enough to be hit.
        client.put("/api/v1/settings/rag_chunk_overlap", json={"value": 0}).raise_for_status()
        client.put("/api/v1/settings/rag_chunk_size", json={"value": 24}).raise_for_status()
    return made


@pytest.mark.parametrize("stage", ["extracting", "splitting", "embedding", "storing"])
def test_a_horse_killed_in_a_stage_is_replaced_and_the_file_completes_once(stack: Stack, stage: str) -> None:
    sentences = 400
    with stack.http() as client:
        with stack.nothing_stored():
            uploaded = stack.upload(client, "notes.txt", long_text(sentences)).json()
            started = stack.wait_for_event(event="job_started", attempt=1)
            stack.wait_for_event(event="stage_started", stage=stage, attempt=1)
            os.kill(started["horse_pid"], signal.SIGKILL)
        again = stack.wait_for_event(event="job_started", attempt=2)
        assert again["horse_pid"] != started["horse_pid"]
        job = stack.wait(client, uploaded["job"]["id"])
        assert (job["state"], job["attempt"]) == ("completed", 2)
        events = [record["event"] for record in stack.events()]
        assert events.count("resource_loaded") == 4
        # The worker itself saw the death: it did not take until the end of a lease.
        assert "job_reaped" not in events
        chunks_cover_the_text_once(client, uploaded["file"]["id"], sentences)


def test_a_file_that_always_kills_its_horse_is_quarantined(stack: Stack) -> None:
    with stack.http() as client:
        with stack.nothing_stored():
            uploaded = stack.upload(client, "poison.txt", long_text(400)).json()
            for attempt in (1, 2, 3):
                started = stack.wait_for_event(event="job_started", attempt=attempt)
                os.kill(started["horse_pid"], signal.SIGKILL)
        job = stack.wait(client, uploaded["job"]["id"])
        assert (job["state"], job["error"]["code"], job["quarantined"]) == ("failed", "quarantined", True)
        good = stack.upload(client, "good.txt", b"Coots are not ducks.").json()
        assert stack.wait(client, good["job"]["id"])["state"] == "completed"
        retried = client.post(f"/api/v1/jobs/{uploaded['job']['id']}/retry")
        assert retried.status_code == 202
        assert stack.wait(client, uploaded["job"]["id"])["state"] == "completed"


def test_everything_killed_at_once_loses_no_acknowledged_file(stack: Stack) -> None:
    with stack.http() as client:
        jobs = [
            stack.upload(client, f"n{number}.txt", long_text(200 + number)).json()["job"]["id"]
            for number in range(8)
        ]
    stack.wait_for_event(event="stage_started", stage="embedding")
    family = stack.family()
    stack.send(signal.SIGKILL)
    for pid in family:
        send(pid, signal.SIGKILL)
    stack.stop(signal.SIGKILL)
    stack.start()
    with stack.http() as client:
        for job_id in jobs:
            assert stack.wait(client, job_id)["state"] == "completed"
        items: list[dict[str, Any]] = client.get("/api/v1/collections/docs/files").json()["items"]
        assert len(items) == 8
        total = sum(client.get(f"/api/v1/jobs/{job_id}").json()["progress"]["total"] for job_id in jobs)
        assert client.get("/api/v1/stats").json()["chunks"] == total


def test_flushall_loses_tickets_but_no_file(stack: Stack) -> None:
    with stack.http() as client:
        jobs = [stack.upload(client, f"f{n}.txt", long_text(150 + n)).json()["job"]["id"] for n in range(6)]
        redis = Redis.from_url(stack.engines.redis_admin_url)
        redis.flushall()
        redis.close()
        for job_id in jobs:
            assert stack.wait(client, job_id)["state"] == "completed"
        assert any(record["event"] == "tickets_missing" for record in stack.events())


def ticket_data(redis: Redis) -> Iterator[bytes]:
    """Return what RQ keeps of calls, which it compresses."""
    for key in redis.scan_iter("rq:job:*"):
        data = redis.hget(key, "data")
        if isinstance(data, bytes):
            yield data


def test_redis_carries_tickets_only(stack: Stack) -> None:
    with stack.http() as client:
        for number in range(5):
            text = " ".join(f"Avocets sweep their bills {number} {word}." for word in range(1500))
            stack.upload(client, f"secretname{number}.txt", text.encode())
        redis = Redis.from_url(stack.engines.redis_admin_url)
        # Compressed, what must not be there could not be seen.
        redis.config_set("rdbcompression", "no")
        dump = b"".join(zlib.decompress(data) for data in ticket_data(redis))
        for key in redis.scan_iter():
            dump += key + (redis.dump(key) or b"")
        redis.close()
    assert b"process_file" in dump
    for secret in (b"Avocets", b"secretname", stack.key.encode()):
        assert secret not in dump


def test_cancelling_stops_a_running_job(stack: Stack) -> None:
    with stack.http() as client:
        uploaded = stack.upload(client, "long.txt", long_text(4000)).json()
        stack.wait_for_event(event="stage_started", stage="embedding")
        assert client.post(f"/api/v1/jobs/{uploaded['job']['id']}/cancel").status_code == 202
        job = stack.wait(client, uploaded["job"]["id"])
        assert (job["state"], job["error"]["code"]) == ("cancelled", "cancelled")
        good = stack.upload(client, "good.txt", b"Rails hide in reeds.").json()
        assert stack.wait(client, good["job"]["id"])["state"] == "completed"
