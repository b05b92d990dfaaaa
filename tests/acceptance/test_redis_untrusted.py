"""A Redis whose content somebody else writes: nothing of it runs, and documents go on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tests.harness.eventually import eventually
from tests.harness.stack import Stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    connection = Redis.from_url(stack.engines.redis_admin_url)
    yield connection
    connection.close()


def put(redis: Redis, job_id: str, function: str, *args: str, **fields: str) -> None:
    """Write a job into the documents' queue."""
    data = zlib.compress(json.dumps([function, None, args, {}]).encode())
    mapping = {"data": data, "origin": "emberq", "status": "queued", "timeout": "60", **fields}
    redis.hset(f"rq:job:{job_id}", mapping=mapping)  # type: ignore[arg-type]
    redis.rpush("rq:queue:emberq", job_id)


def test_a_ticket_that_names_another_function_is_refused_and_logged(
    stack: Stack, client: httpx.Client, redis: Redis, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    put(redis, "evil", "os.system", f"touch {mark}")
    put(redis, "sly", "emberq.pipeline.process.process_file", "x", failure_callback_name="os.system")
    put(redis, "empty", "emberq.pipeline.process.process_file", "no id")

    for job_id, named in (("evil", "os.system"), ("sly", "os.system")):
        line = stack.wait_for_event(event="job_refused", rq_job=job_id)
        assert line["function"] == named
        eventually(partial(redis.hget, f"rq:job:{job_id}", "status"), lambda status: status == b"failed")
    assert not mark.exists()
    answer = stack.upload(client, "after.txt", b"After the refused jobs.").json()
    assert stack.wait(client, answer["job"]["id"])["state"] == "completed"
    metrics = client.get("/metrics").text
    assert 'emberq_refused_jobs_total{reason="function"} 1.0' in metrics


def test_keys_of_another_type_are_repaired_and_documents_go_on(
    stack: Stack, client: httpx.Client, redis: Redis
) -> None:
    keys = ["rq:queue:emberq", "rq:queue:emberq:intermediate", "rq:wip:emberq", "rq:workers:emberq"]
    for key in keys:
        redis.delete(key)
        redis.set(key, b"\xff")
    redis.hset("rq:worker:forged", mapping={"pid": "many", "birth": "never", "queues": b"\xff"})
    redis.sadd("rq:workers", "rq:worker:forged", "rq:worker:gone", "what", b"\xff\xfe")
    answer = stack.upload(client, "broken.txt", b"While the queue is broken.")
    assert answer.status_code == 202
    assert stack.wait(client, answer.json()["job"]["id"])["state"] == "completed"
    assert client.get("/api/v1/workers").status_code == 200
    eventually(lambda: redis.type("rq:queue:emberq") in (b"none", b"list"))
    redis.srem("rq:workers", "rq:worker:forged", "what", b"\xff\xfe")
