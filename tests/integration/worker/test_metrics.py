"""Metrics of RQ's own command with a WarmWorker: counted in many processes, kept over their deaths."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rq import Retry

from emberq.testing.ports import free_port
from tests.harness.eventually import eventually, scaled
from tests.harness.paths import RQ
from tests.harness.processes import run_program
from tests.harness.workers import WorkerBench

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class MetricsBench(WorkerBench):
    """A bench whose workers share a directory and a port for their metrics, as on one bench."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(url, directory, jobs="warm")
        self.port = free_port()
        self.metrics = directory / "metrics"
        self.environment |= {
            "EMBERQ_METRICS_DIR": str(self.metrics),
            "EMBERQ_METRICS_PORT": str(self.port),
        }

    def scrape(self) -> Samples:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=scaled(30)) as answer:
            return parse(answer.read().decode())

    def wait_for(self, name: str, value: float, **labels: str) -> Samples:
        """Wait until a sample has a value, and return all samples."""
        return eventually(
            self.scrape,
            lambda samples: get(samples, name, **labels) == value,
            despite=(OSError, http.client.HTTPException),
            told=self.log,
        )


def parse(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def get(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[MetricsBench]:
    with MetricsBench(redis_url, tmp_path) as made:
        yield made


def test_what_jobs_did_is_counted_and_served(bench: MetricsBench) -> None:
    bench.rq_worker()
    for _ in range(5):
        bench.run("where")
    bench.run("raise_error")
    bench.wait_for("emberq_job_duration_seconds_count", 6.0)
    # The worker notes that it is idle after its horse has counted the job.
    samples = bench.wait_for("emberq_workers", 1.0, state="idle")
    assert get(samples, "emberq_jobs_total", state="completed", error_code="") == 5
    assert get(samples, "emberq_jobs_total", state="failed", error_code="internal_error") == 1
    assert get(samples, "emberq_workers", state="busy") == 0
    assert (get(samples, "emberq_worker_private_memory_bytes") or 0) > 1e6
    assert (get(samples, "emberq_resource_load_seconds", resource="model") or 0) > 0
    assert (get(samples, "emberq_redis_pool_connections", profile="worker", state="idle") or 0) > 0


def test_counts_survive_the_deaths_of_those_who_counted(bench: MetricsBench) -> None:
    worker = bench.rq_worker()
    rounds = 12
    for _ in range(rounds):
        assert bench.run("where").get_status() == "finished"
        assert bench.run("die").get_status() == "failed"
    # A job's end is seen in Redis before it is counted.
    bench.wait_for("emberq_horse_restarts_total", rounds, reason="killed")
    bench.wait_for("emberq_jobs_total", rounds, state="failed", error_code="worker_lost")
    bench.wait_for("emberq_recoveries_total", rounds, cause="horse_killed")
    samples = bench.wait_for("emberq_recovery_seconds_count", rounds)
    assert get(samples, "emberq_jobs_total", state="completed", error_code="") == rounds
    assert get(samples, "emberq_job_duration_seconds_count") == rounds
    assert worker.is_running


def test_files_of_the_dead_are_added_up_and_deleted(bench: MetricsBench) -> None:
    bench.rq_worker()
    rounds = 10
    for _ in range(rounds):
        bench.run("where")
        bench.run("die")
    before = bench.wait_for("emberq_horse_restarts_total", float(rounds), reason="killed")
    # The sums, and of each of worker, preloader, endpoint and horse one file a kind.
    most = 2 + 4 * 4
    eventually(lambda: list(bench.metrics.glob("*.db")), lambda files: len(files) <= most)
    after = bench.scrape()
    for name, labels in before:
        if name.endswith(("_total", "_count", "_sum", "_bucket")):
            assert after[name, labels] >= before[name, labels]
    assert get(after, "emberq_jobs_total", state="completed", error_code="") == rounds


def test_a_retried_job_is_counted_when_it_ends(bench: MetricsBench) -> None:
    bench.rq_worker()
    bench.run("die", retry=Retry(max=2))
    # The job is counted after its horse's end.
    samples = bench.wait_for("emberq_jobs_total", 1.0, state="failed", error_code="worker_lost")
    assert get(samples, "emberq_horse_restarts_total", reason="killed") == 3


def test_another_worker_serves_when_the_first_is_killed(bench: MetricsBench) -> None:
    first = bench.rq_worker("--name", "first")
    bench.run("where")
    bench.wait_for("emberq_workers", 1.0, state="idle")
    bench.rq_worker("--name", "second")
    bench.wait_for("emberq_workers", 2.0, state="idle")
    first.stop(signal.SIGKILL)
    samples = bench.wait_for("emberq_workers", 1.0, state="idle")
    assert get(samples, "emberq_jobs_total", state="completed", error_code="") == 1


def test_a_killed_endpoint_is_replaced(bench: MetricsBench) -> None:
    bench.rq_worker()
    bench.run("where")
    bench.wait_for("emberq_workers", 1.0, state="idle")
    [serving] = list(listeners(bench.port))
    os.kill(serving, signal.SIGKILL)
    bench.wait_for("emberq_workers", 1.0, state="idle")
    assert serving not in listeners(bench.port)


def test_counting_leaks_no_descriptors_into_jobs(bench: MetricsBench) -> None:
    bench.rq_worker()
    first, *_, last = [bench.run("counts") for _ in range(20)]
    assert first.return_value() == last.return_value()
    samples = bench.wait_for("emberq_job_duration_seconds_count", 20.0)
    assert get(samples, "emberq_horse_restarts_total", reason="leak") is None


def test_nothing_is_counted_where_nothing_is_asked_for(redis_url: str) -> None:
    command = [RQ, "worker", "-w", "emberq.WarmWorker", "--url", redis_url, "--burst", "warm"]
    code = (
        "import sys, runpy, atexit; "
        "atexit.register(lambda: print('prometheus_client' in sys.modules)); "
        f"sys.argv = {command!r}; runpy.run_path({RQ!r}, run_name='__main__')"
    )
    done = run_program(sys.executable, "-c", code)
    assert done.stdout.strip().splitlines()[-1] == "False", done.stderr


def listeners(port: int) -> set[int]:
    """Return the processes that accept connections on a port: those that hold it and are endpoints."""
    found = set()
    for connection in psutil.net_connections("tcp4"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            found.add(connection.pid)
    return found
