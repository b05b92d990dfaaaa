"""Metrics of RQ's own command with a WarmWorker: counted in many processes, kept over their deaths."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from rq import Queue, Retry
from rq.job import Job
from rq.serializers import JSONSerializer

from emberq.testing.valkey import free_port
from tests.harness.paths import RQ, python_path

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Host:
    """Workers of one host that share a directory and a port for their metrics."""

    def __init__(self, url: str, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.connection = Redis.from_url(url)
        self.queue = Queue("warm", connection=self.connection, serializer=JSONSerializer)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._url = url

    def start(self, *options: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "EMBERQ_PRELOAD": "tests.jobs.warm",
            "EMBERQ_METRICS_DIR": str(self.directory),
            "EMBERQ_METRICS_PORT": str(self.port),
            "PYTHONPATH": python_path(),
        }
        command = [RQ, "worker", "-w", "emberq.WarmWorker", "--url", self._url]
        serializer = ["--serializer", "rq.serializers.JSONSerializer"]
        worker = subprocess.Popen([*command, *serializer, *options, "warm"], env=environment)
        self.workers.append(worker)
        return worker

    def scrape(self) -> Samples:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return parse(answer.read().decode())

    def wait_for(self, name: str, value: float, seconds: float = 30, **labels: str) -> Samples:
        deadline = time.monotonic() + seconds
        found: Samples = {}
        while time.monotonic() < deadline:
            try:
                found = self.scrape()
            except (OSError, http.client.HTTPException):
                found = {}
            if get(found, name, **labels) == value:
                return found
            time.sleep(0.1)
        pytest.fail(f"{name}{labels} is {get(found, name, **labels)}, not {value}")

    def run(self, name: str, *args: object, **options: object) -> Job:
        job = self.queue.enqueue(f"tests.jobs.warm.{name}", args=args, **options)
        deadline = time.monotonic() + 30
        while job.get_status(refresh=True) not in ("finished", "failed", "stopped"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return job

    def stop(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(10)
        self.connection.close()


def parse(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def get(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def host(redis_url: str, tmp_path: Path) -> Iterator[Host]:
    made = Host(redis_url, tmp_path / "metrics")
    yield made
    made.stop()


def test_what_jobs_did_is_counted_and_served(host: Host) -> None:
    host.start()
    for _ in range(5):
        host.run("where")
    host.run("raise_error")
    samples = host.wait_for("emberq_job_duration_seconds_count", 6.0)
    assert get(samples, "emberq_jobs_total", state="completed", error_code="") == 5
    assert get(samples, "emberq_jobs_total", state="failed", error_code="internal_error") == 1
    assert get(samples, "emberq_workers", state="idle") == 1
    assert get(samples, "emberq_workers", state="busy") == 0
    assert (get(samples, "emberq_worker_private_memory_bytes") or 0) > 1e6
    assert (get(samples, "emberq_resource_load_seconds", resource="model") or 0) > 0
    assert (get(samples, "emberq_redis_pool_connections", profile="worker", state="idle") or 0) > 0


def test_counts_survive_the_deaths_of_those_who_counted(host: Host) -> None:
    worker = host.start()
    rounds = 12
    for _ in range(rounds):
        assert host.run("where").get_status() == "finished"
        assert host.run("die").get_status() == "failed"
    samples = host.wait_for("emberq_horse_restarts_total", float(rounds), reason="killed")
    assert get(samples, "emberq_jobs_total", state="completed", error_code="") == rounds
    assert get(samples, "emberq_jobs_total", state="failed", error_code="worker_lost") == rounds
    assert get(samples, "emberq_recoveries_total", cause="horse_killed") == rounds
    assert get(samples, "emberq_recovery_seconds_count") == rounds
    assert get(samples, "emberq_job_duration_seconds_count") == rounds
    assert worker.poll() is None


def test_files_of_the_dead_are_added_up_and_deleted(host: Host) -> None:
    host.start()
    rounds = 10
    for _ in range(rounds):
        host.run("where")
        host.run("die")
    before = host.wait_for("emberq_horse_restarts_total", float(rounds), reason="killed")
    # The sums, and of each of worker, preloader, endpoint and horse one file a kind.
    most = 2 + 4 * 4
    deadline = time.monotonic() + 30
    while len(list(host.directory.glob("*.db"))) > most and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(list(host.directory.glob("*.db"))) <= most
    after = host.scrape()
    for name, labels in before:
        if name.endswith(("_total", "_count", "_sum", "_bucket")):
            assert after[name, labels] >= before[name, labels]
    assert get(after, "emberq_jobs_total", state="completed", error_code="") == rounds


def test_a_retried_job_is_counted_when_it_ends(host: Host) -> None:
    host.start()
    host.run("die", retry=Retry(max=2))
    samples = host.wait_for("emberq_horse_restarts_total", 3.0, reason="killed")
    assert get(samples, "emberq_jobs_total", state="failed", error_code="worker_lost") == 1


def test_another_worker_serves_when_the_first_is_killed(host: Host) -> None:
    first = host.start("--name", "first")
    host.run("where")
    host.wait_for("emberq_workers", 1.0, state="idle")
    host.start("--name", "second")
    host.wait_for("emberq_workers", 2.0, state="idle")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    samples = host.wait_for("emberq_workers", 1.0, state="idle")
    assert get(samples, "emberq_jobs_total", state="completed", error_code="") == 1


def test_a_killed_endpoint_is_replaced(host: Host) -> None:
    host.start()
    host.run("where")
    host.wait_for("emberq_workers", 1.0, state="idle")
    [serving] = list(listeners(host.port))
    os.kill(serving, signal.SIGKILL)
    host.wait_for("emberq_workers", 1.0, state="idle")
    assert serving not in listeners(host.port)


def test_counting_leaks_no_descriptors_into_jobs(host: Host) -> None:
    host.start()
    first, *_, last = [host.run("counts") for _ in range(20)]
    assert first.return_value() == last.return_value()
    samples = host.wait_for("emberq_job_duration_seconds_count", 20.0)
    assert get(samples, "emberq_horse_restarts_total", reason="leak") is None


def test_nothing_is_counted_where_nothing_is_asked_for(redis_url: str, tmp_path: Path) -> None:
    host = Host(redis_url, tmp_path / "metrics")
    command = [RQ, "worker", "-w", "emberq.WarmWorker", "--url", redis_url, "--burst", "warm"]
    code = (
        "import sys, runpy, atexit; "
        "atexit.register(lambda: print('prometheus_client' in sys.modules)); "
        f"sys.argv = {command!r}; runpy.run_path({RQ!r}, run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip().splitlines()[-1] == "False", done.stderr
    host.stop()


def listeners(port: int) -> set[int]:
    """Return the processes that accept connections on a port: those that hold it and are endpoints."""
    import psutil

    found = set()
    for connection in psutil.net_connections("tcp4"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            found.add(connection.pid)
    return found
