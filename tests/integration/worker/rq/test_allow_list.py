"""A worker with an allow-list, and a Redis whose content somebody else wrote."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq import Callback, Queue
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.job import JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.utils import current_timestamp

from tests.harness.eventually import eventually
from tests.harness.paths import RQ
from tests.harness.workers import WorkerBench

MODULE = "tests.jobs.allowed"
TICKET_WORKER = f"{MODULE}.TicketWorker"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there once something ran that must not."""
    return tmp_path / "mark"


@pytest.fixture
def bench(redis_url: str, tmp_path: Path, mark: Path) -> Iterator[WorkerBench]:
    with WorkerBench(redis_url, tmp_path, jobs="allowed") as made:
        made.environment |= {"EMBERQ_ALLOW": f"{MODULE}.answer", "ALLOWED_MARK": str(mark)}
        yield made


def payload(name: Any, *args: Any, instance: Any = None, **named: Any) -> bytes:
    return zlib.compress(json.dumps([name, instance, args, named]).encode())


def put(bench: WorkerBench, job_id: str, fields: Mapping[Any, Any] | bytes) -> None:
    """Write a job as anybody can who reaches Redis."""
    key = f"rq:job:{job_id}"
    if isinstance(fields, bytes):
        bench.connection.set(key, fields)
    else:
        bench.connection.hset(key, mapping={"origin": bench.queue.name, "status": "queued", **fields})
    bench.connection.rpush(bench.queue.key, job_id)


def refused(bench: WorkerBench) -> list[dict[str, Any]]:
    """Return the log's lines about refused jobs."""
    lines = (bench.directory / "log").read_text().splitlines()
    found = [json.loads(line) for line in lines if '"job_refused"' in line]
    return [line for line in found if line["event"] == "job_refused"]


def test_only_functions_on_the_list_run_and_the_others_fail_in_one_line(
    bench: WorkerBench, mark: Path
) -> None:
    good = bench.enqueue("answer")
    names = [
        "os.system",
        f"{MODULE}.mark",
        f"{MODULE}.run",
        f"{MODULE}.os.system",
        "eval",
        "rq.job.Job.fetch",
    ]
    bad = [bench.queue.enqueue(name, f"touch {mark}", retry=None) for name in names]
    last = bench.enqueue("answer")

    bench.burst()

    assert good.return_value() == last.return_value() == "done"
    assert not mark.exists()
    assert [(line["reason"], line["function"]) for line in refused(bench)] == [
        ("function", name) for name in names
    ]
    for job in bad:
        assert job.get_status() == JobStatus.FAILED
        result = job.latest_result()
        assert result is not None
        assert (result.exc_string or "").startswith("job_refused: ")
    assert set(FailedJobRegistry(queue=bench.queue).get_job_ids()) == {job.id for job in bad}
    assert bench.connection.llen(bench.queue.intermediate_queue_key) == 0


@pytest.mark.parametrize("callback", ["on_success", "on_failure", "on_stopped"])
def test_callbacks_are_on_the_list_too(bench: WorkerBench, mark: Path, callback: str) -> None:
    options: dict[str, Any] = {callback: Callback(f"{MODULE}.mark")}
    job = bench.enqueue("answer", **options)
    bench.burst()
    assert job.get_status() == JobStatus.FAILED
    assert not mark.exists()
    assert [line["reason"] for line in refused(bench)] == ["callback"]


def test_a_refused_job_is_neither_retried_nor_repeated_nor_sent(bench: WorkerBench, mark: Path) -> None:
    webhook = {"url": "http://127.0.0.1:9/", "job_status": "failed", "timeout": 100}
    put(
        bench,
        "greedy",
        {
            "data": payload("os.system", f"touch {mark}"),
            "retries_left": 10**9,
            "retry_intervals": "[0]",
            "repeats_left": 10**9,
            "webhooks": json.dumps([webhook]),
        },
    )
    log = bench.burst()
    assert len(refused(bench)) == 1
    assert "webhook" not in log
    assert not mark.exists()


def test_an_abandoned_job_calls_nothing_from_the_clean_up(bench: WorkerBench, mark: Path) -> None:
    fields: dict[Any, Any] = {
        "data": payload(f"{MODULE}.answer"),
        "origin": bench.queue.name,
        "status": "started",
        "failure_callback_name": f"{MODULE}.mark",
    }
    bench.connection.hset("rq:job:left", mapping=fields)
    started = StartedJobRegistry(queue=bench.queue)
    bench.connection.zadd(started.key, {"left:1": current_timestamp() - 100})
    bench.burst()
    assert not mark.exists()
    assert [line["reason"] for line in refused(bench)] == ["callback"]
    assert started.get_job_ids(cleanup=False) == []


def test_pickled_jobs_of_allowed_functions_run_and_bombs_do_not_go_off(
    redis_url: str, bench: WorkerBench, mark: Path
) -> None:
    queue = Queue("pickled", connection=bench.connection)
    good = queue.enqueue(f"{MODULE}.answer", Path("x"), when=None, words={"a", "b"})

    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    bomb = queue.enqueue(f"{MODULE}.answer", "x")
    data = zlib.compress(pickle.dumps((f"{MODULE}.answer", None, (Bomb(),), {})))
    bench.connection.hset(bomb.key, mapping={"data": data, "meta": pickle.dumps(Bomb())})
    meta = queue.enqueue(f"{MODULE}.answer")
    bench.connection.hset(meta.key, "meta", pickle.dumps(Bomb()))

    worker = bench.start(RQ, "worker", "-w", "emberq.WarmWorker", "--url", redis_url, "--burst", "pickled")
    assert worker.wait() == 0

    assert good.get_status() == JobStatus.FINISHED, bench.log()
    assert bomb.get_status() == JobStatus.FAILED
    assert not mark.exists()
    assert [line["reason"] for line in refused(bench)] == ["payload"]


def test_a_ticket_worker_unpickles_nothing_and_reads_no_other_field(bench: WorkerBench, mark: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    put(bench, "bomb", {"data": zlib.compress(pickle.dumps((f"{MODULE}.answer", None, (Bomb(),), {})))})
    put(
        bench,
        "extras",
        {
            "data": payload(f"{MODULE}.answer"),
            "webhooks": json.dumps([{"url": "http://127.0.0.1:9/", "job_status": "finished"}]),
            "repeats_left": 10**6,
            "retries_left": "x",
            "rate_limit_key": "k",
            "meta": b"\xff",
            "dependency_ids": "{",
            "group_id": b"\xff",
            "result": pickle.dumps(Bomb()),
            "description": b"x" * 1_000_000,
        },
    )
    log = bench.burst(worker=TICKET_WORKER)
    assert bench.connection.hget("rq:job:extras", "status") == b"finished"
    assert "webhook" not in log
    assert not mark.exists()
    assert [line["rq_job"] for line in refused(bench)] == ["bomb"]


GOOD = payload(f"{MODULE}.answer")
BROKEN: dict[str, Mapping[Any, Any] | bytes] = {
    "no-data": {"description": "x"},
    "a-string": b"no hash",
    "bomb": {"data": zlib.compress(b"[" * 200_000_000, 9)},
    "deep": {"data": zlib.compress(b"[" * 1_000_000)},
    "twice": {"data": zlib.compress(zlib.compress(b"[]"))},
    "not-zlib": {"data": b"x\x9c\xff\xff"},
    "not-json": {"data": zlib.compress(b"{nan")},
    "number": {"data": zlib.compress(b"7")},
    "odd-function": {"data": payload(["x"])},
    "odd-instance": {"data": payload("format", instance="{0.__class__}")},
    "odd-arguments": {"data": zlib.compress(json.dumps([f"{MODULE}.answer", None, "x", []]).encode())},
    "long-name": {"data": payload("a" * 100_000)},
    "nan": {"data": GOOD, "timeout": "nan"},
    "endless": {"data": GOOD, "timeout": "9" * 400},
    "negative": {"data": GOOD, "timeout": "-5"},
    "far-ttl": {"data": GOOD, "result_ttl": str(10**18)},
    "odd-time": {"data": GOOD, "created_at": b"\xff", "enqueued_at": "yesterday"},
    "odd-status": {"data": GOOD, "status": b"\xfe"},
    "odd-field": {"data": GOOD, b"\xff\xfe": "x"},
    "odd-callback": {"data": GOOD, "success_callback_name": b"\xff"},
    "null-callback": {"data": GOOD, "failure_callback_name": "os.system\x00"},
}


@pytest.mark.parametrize("worker", ["emberq.WarmWorker", TICKET_WORKER])
def test_no_content_of_a_job_ends_the_worker_or_its_horse(bench: WorkerBench, worker: str) -> None:
    first = bench.queue.enqueue(f"{MODULE}.answer", result_ttl=500)
    for job_id, fields in BROKEN.items():
        put(bench, job_id, fields)
    odd_ids: list[Any] = [b"\xff\xfe", b"", b"a:b", b"spaces are odd", b"../x", b"x" * 100_000]
    bench.connection.rpush(bench.queue.key, *odd_ids)
    last = bench.queue.enqueue(f"{MODULE}.answer", result_ttl=500)

    log = bench.burst(worker=worker)

    assert first.return_value() == last.return_value() == "done", log[-3000:]
    assert "unhandled exception" not in log
    assert "horse_ended" not in log
    told = {line["rq_job"] for line in refused(bench)}
    assert set(BROKEN) - told <= {"no-data", "odd-time", "not-zlib"}
    # RQ's clean-up removes ids without a job a minute later.
    left: Any = bench.connection.lrange(bench.queue.intermediate_queue_key, 0, -1)
    assert set(left) <= {b"no-data", b"", b"x" * 100_000}


_TEXT = st.one_of(
    st.binary(max_size=40),
    st.integers().map(lambda number: str(number).encode()),
    st.floats().map(lambda number: str(number).encode()),
    st.sampled_from([b"", b"null", b"[]", b"{}", b"-1", b"1e999", b"2026-01-01T00:00:00Z", b"started"]),
)
_FIELDS = st.dictionaries(
    st.sampled_from(
        [
            *(
                "data",
                "timeout",
                "result_ttl",
                "failure_ttl",
                "ttl",
                "meta",
                "status",
                "origin",
                "created_at",
            ),
            *("success_callback_name", "success_callback_timeout", "failure_callback_timeout", "webhooks"),
            *("dependency_ids", "allow_dependency_failures", "enqueue_at_front", "retries_left", "group_id"),
            *("retry_intervals", "repeats_left", "repeat_intervals", "rate_limit_key", "worker_name"),
            *("rate_limit_concurrency", "number_of_retries", "started_at", "ended_at", "last_heartbeat"),
        ]
    ),
    _TEXT,
    max_size=6,
)


@settings(
    max_examples=int(os.environ.get("FUZZ_ROUNDS", "2")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(st.lists(_FIELDS, min_size=40, max_size=60))
def test_no_fields_that_a_fuzzer_finds_end_the_worker(
    bench: WorkerBench, jobs: list[dict[str, bytes]]
) -> None:
    bench.connection.flushall()
    for number, fields in enumerate(jobs):
        put(bench, f"fuzz-{number}", {"data": GOOD, **fields})
    last = bench.queue.enqueue(f"{MODULE}.answer", result_ttl=500)
    log = bench.burst(worker=TICKET_WORKER)
    assert last.return_value() == "done", log[-3000:]
    assert "unhandled exception" not in log


def test_malformed_commands_and_heartbeats_do_not_stop_a_worker(bench: WorkerBench) -> None:
    bench.environment.pop("EMBERQ_ALLOW")
    program = bench.start(
        *(RQ, "worker", "-w", TICKET_WORKER, "--url", bench.url, "--name", "target", "--serializer", "json"),
        bench.queue.name,
    )
    assert bench.queue.enqueue(f"{MODULE}.answer", result_ttl=500).latest_result(timeout=60)
    channel = PUBSUB_CHANNEL_TEMPLATE % "target"
    words = [b"", b"\xff", b"[]", b"{}", b"7", b'{"command": []}', b'{"command": "shutdown"}', b"[" * 100_000]
    words += [b'{"command": "kill-horse"}', b'{"command": "stop-job", "job_id": {}}']
    for word in words:
        assert bench.connection.publish(channel, word) == 1
    for key in ("rq:worker:target", "rq:worker:target:executions", "worker:heartbeat:target"):
        bench.connection.delete(key)
        bench.connection.set(key, b"\xff")
    eventually(lambda: bench.log().count("command_refused") >= len(words) - 1)
    # One job may be refused for the worker's own broken keys, which are repaired after it.
    jobs = [bench.queue.enqueue(f"{MODULE}.answer", result_ttl=500) for _ in range(2)]
    assert jobs[-1].latest_result(timeout=60), bench.log()
    assert jobs[-1].return_value() == "done", bench.log()
    assert bench.connection.publish(channel, b"{}") == 1
    assert program.is_running


def test_a_queue_that_redis_refuses_to_read_is_waited_for(bench: WorkerBench) -> None:
    bench.connection.set(bench.queue.key, "no list")
    program = bench.rq_worker()
    eventually(lambda: "queue_broken" in bench.log())
    bench.connection.delete(bench.queue.key)
    job = bench.queue.enqueue(f"{MODULE}.answer", result_ttl=500)
    assert job.latest_result(timeout=60), bench.log()
    assert bench.log().count("queue_broken") == 1
    assert program.stop() == 0
