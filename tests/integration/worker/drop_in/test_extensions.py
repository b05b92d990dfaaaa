"""Callbacks, results, classes, serializers: the same with both worker classes."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rq import Callback, Queue, Retry
from rq.job import Job, JobStatus
from rq.serializers import DefaultSerializer, JSONSerializer, PickleSerializer
from rq.webhook import Webhook

from tests.harness.paths import RQ, python_path
from tests.harness.processes import run_program
from tests.integration.worker.drop_in.yard import Yard
from tests.jobs import drop_in as jobs

#: RQ's own worker forks while its pub/sub thread runs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_callbacks_run_in_the_horse(yard: Yard) -> None:
    yard.queue.enqueue(jobs.add, 1, 1, on_success=Callback(jobs.on_success))
    yard.queue.enqueue(jobs.fail, on_failure=Callback(jobs.on_failure))
    broken = yard.queue.enqueue(jobs.add, 1, 1, on_success=Callback(jobs.on_failure))
    yard.burst()
    assert yard.callbacks() == ["success 2", "failure as expected"]
    assert broken.get_status() == JobStatus.FAILED


def test_results_live_as_long_as_asked(yard: Yard) -> None:
    kept = yard.queue.enqueue(jobs.add, 1, 1, result_ttl=100)
    forever = yard.queue.enqueue(jobs.add, 1, 1, result_ttl=-1)
    dropped = yard.queue.enqueue(jobs.add, 1, 1, result_ttl=0)
    failed = yard.queue.enqueue(jobs.fail, failure_ttl=50)
    stale = yard.queue.enqueue(jobs.add, 1, 1, ttl=1)
    yard.connection.pexpire(stale.key, 1)
    yard.burst()
    assert 90 <= yard.connection.ttl(kept.key) <= 100
    assert yard.connection.ttl(forever.key) == -1
    assert not yard.connection.exists(dropped.key)
    assert 40 <= yard.connection.ttl(failed.key) <= 50
    assert not yard.connection.exists(stale.key)


@pytest.mark.parametrize("serializer", [DefaultSerializer, PickleSerializer, JSONSerializer])
def test_every_serializer_works(yard: Yard, serializer: Any) -> None:
    queue = Queue("serial", connection=yard.connection, serializer=serializer)
    job = queue.enqueue("tests.jobs.drop_in.add", 1, 2)
    retried = queue.enqueue("tests.jobs.drop_in.fail", retry=Retry(max=1))
    yard.burst(yard.worker(queue, serializer=serializer))
    assert job.return_value() == 3
    assert retried.get_status() == JobStatus.FAILED


def test_custom_job_and_queue_classes_are_used(yard: Yard) -> None:
    queue = jobs.CustomQueue("custom", connection=yard.connection, job_class=jobs.CustomJob)
    job = queue.enqueue(jobs.add, 1, 2)
    yard.burst(yard.worker(queue, job_class=jobs.CustomJob, queue_class=jobs.CustomQueue))
    assert job.return_value() == ["custom", 3]


def test_a_job_class_made_in_a_function_and_full_of_state_works(yard: Yard) -> None:
    class LocalJob(Job):
        def restore(self, raw_data: Any) -> Any:
            self.lock = threading.Lock()
            return super().restore(raw_data)

        def perform(self) -> Any:
            with self.lock:
                return ["local", super().perform()]

    queue = Queue("local", connection=yard.connection, job_class=LocalJob)
    job = queue.enqueue(jobs.add, 1, 2)
    yard.burst(yard.worker(queue, job_class=LocalJob))
    assert job.return_value() == ["local", 3]


def test_exception_handlers_may_be_closures_and_chain(yard: Yard) -> None:
    seen = f"seen-{os.getpid()}"

    def first(job: Job, *exc_info: Any) -> bool:
        job.connection.rpush("handled", f"{seen} {exc_info[1]}")
        return False

    def last(job: Job, *exc_info: Any) -> None:
        job.connection.rpush("handled", "never")

    yard.queue.enqueue(jobs.fail)
    yard.burst(yard.worker(exception_handlers=[first, last]))
    assert yard.connection.lrange("handled", 0, -1) == [f"{seen} as expected".encode()]


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Serve HTTP; give the address, and path and body of what was asked for so far."""
    heard: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the server's own name

        def log_message(self, *_args: object) -> None:
            """Be silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", heard
        finally:
            server.shutdown()
            thread.join()


def test_webhooks_are_sent(yard: Yard) -> None:
    with listening() as (address, heard):
        hooks = [Webhook(f"http://{address}/done", "finished"), Webhook(f"http://{address}/failed", "failed")]
        yard.queue.enqueue(jobs.add, 1, 1, webhooks=hooks)
        yard.queue.enqueue(jobs.fail, webhooks=hooks)
        yard.burst()
    assert [path for path, _ in heard] == ["/done", "/failed"]


def test_sentry_is_told(yard: Yard, redis_url: str, tmp_path: Path) -> None:
    job = yard.queue.enqueue(jobs.fail)
    name = f"{yard.worker_class.__module__}.{yard.worker_class.__name__}"
    with listening() as (address, heard):
        # Sentry changes RQ, Starlette and more for the whole process, and for good: not for this one.
        setup = f"import sentry_sdk\nsentry_sdk.init('http://key@{address}/1')\n"
        (tmp_path / "settings.py").write_text(setup)
        done = run_program(
            *(RQ, "worker", "-c", "settings", "-w", name, "--url", redis_url, "--burst", yard.queue.name),
            cwd=tmp_path,
            environment={**os.environ, "PYTHONPATH": python_path(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
    (event,) = [gzip.decompress(body) for _, body in heard]
    assert b"as expected" in event
    assert job.id.encode() in event
