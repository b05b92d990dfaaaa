"""Metrics of a whole installation: at the API, at the host's own port, and of a crew for any RQ queue."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from rq import Queue

from emberq.testing.valkey import ValkeyServer, free_port
from tests.acceptance.conftest import Stack
from tests.harness.paths import EMBERQ, python_path

Samples = dict[str, float]


def scrape(url: str) -> Samples:
    """Return samples by `name{label="value",…}`, the labels in order; no family may come twice."""
    text = httpx.get(url, timeout=30).text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {
        sample.name
        + "{"
        + ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
        + "}": sample.value
        for family in families
        for sample in family.samples
    }


def wait_for(url: str, name: str, value: float, seconds: float = 30) -> Samples:
    deadline = time.monotonic() + seconds
    found: Samples = {}
    while time.monotonic() < deadline:
        try:
            found = scrape(url)
        except httpx.HTTPError:
            found = {}
        if found.get(name) == value:
            return found
        time.sleep(0.1)
    pytest.fail(f"{name} is {found.get(name)}, not {value}")


def test_files_are_counted_at_the_api_and_at_the_host_over_killed_horses(
    own_stack: Callable[..., Stack],
) -> None:
    port = free_port()
    stack = own_stack(workers=1, environment={"EMBERQ_METRICS_PORT": str(port)})
    host = f"http://127.0.0.1:{port}/metrics"
    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        uploads = [stack.upload(client, f"{n}.txt", f"Text number {n} of birds.".encode()) for n in range(3)]
        for upload in uploads:
            assert stack.wait(client, upload.json()["job"]["id"])["state"] == "completed"
        notes = b"\n\n".join(b"Note %d of birds." % n for n in range(3000))
        with stack.nothing_stored():
            killed = stack.upload(client, "long.txt", notes)
            stack.wait_for_event(event="stage_started", stage="embedding", job=killed.json()["job"]["id"])
            started = stack.wait_for_event(event="job_started", job=killed.json()["job"]["id"])
            os.kill(started["horse_pid"], signal.SIGKILL)
        assert stack.wait(client, killed.json()["job"]["id"])["state"] == "completed"
        broken = stack.upload(client, "broken.pdf", b"%PDF-1.7 and no more")
        failed = stack.wait(client, broken.json()["job"]["id"])

    at_api = scrape(f"{stack.url}/metrics")
    at_host = wait_for(host, 'emberq_jobs_total{error_code="",state="completed"}', 4.0)
    for samples in (at_api, at_host):
        assert samples['emberq_jobs_total{error_code="",state="completed"}'] == 4
        assert samples[f'emberq_jobs_total{{error_code="{failed["error"]["code"]}",state="failed"}}'] == 1
        assert samples['emberq_horse_restarts_total{reason="killed"}'] == 1
        assert samples['emberq_recoveries_total{cause="horse_killed"}'] == 1
        assert samples["emberq_job_duration_seconds_count{}"] == 5
        assert samples['emberq_stage_duration_seconds_count{stage="storing"}'] == 4
        assert samples["emberq_embedding_tokens_total{}"] > 1000
        assert samples['emberq_embedding_cache_total{result="miss"}'] > 0
        assert samples['emberq_resource_load_seconds{resource="embedding_functions"}'] > 0
        assert samples["emberq_worker_private_memory_bytes{}"] > 1e6
        assert samples['emberq_db_pool_connections{state="idle"}'] > 0
        assert samples['emberq_redis_pool_connections{profile="worker",state="in_use"}'] > 0
    assert at_host['emberq_workers{state="idle"}'] == 1
    assert at_api['emberq_workers{state="alive"}'] == 1
    assert at_api['emberq_queue_depth{state="pending"}'] == 0
    assert at_api["emberq_backlog_seconds{}"] == 0
    assert samples['emberq_resource_load_seconds{resource="warmup"}'] > 0
    assert any(name.startswith("emberq_http_request_duration_seconds_count") for name in at_api)
    assert list((stack.data_dir / "metrics").iterdir())
    stack.stop()
    assert not list((stack.data_dir / "metrics").iterdir())


def test_what_a_killed_installation_left_is_cleared_away(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(workers=1)
    [left] = (stack.data_dir / "metrics").iterdir()
    os.kill(stack.pid, signal.SIGKILL)
    stack.stop()
    stack.start()
    [now] = (stack.data_dir / "metrics").iterdir()
    assert now != left


def test_a_crew_for_any_queue_serves_its_metrics_and_takes_a_taken_port_for_an_answer(tmp_path: Path) -> None:
    port = free_port()
    with ValkeyServer(tmp_path / "valkey") as server:
        environment = {
            **os.environ,
            "EMBERQ_REDIS_URL": server.url,
            "EMBERQ_METRICS_PORT": str(port),
            "PYTHONPATH": python_path(),
        }
        command = [EMBERQ, "worker", "-n", "2", "--preload", "tests.jobs.warm", "warm"]
        crew = subprocess.Popen(command, env=environment, cwd=tmp_path)
        try:
            with Redis(port=server.port) as connection:
                queue = Queue("warm", connection=connection)
                for _ in range(6):
                    queue.enqueue("tests.jobs.warm.where")
                samples = wait_for(
                    f"http://127.0.0.1:{port}/metrics", "emberq_job_duration_seconds_count{}", 6.0
                )
                wait_for(f"http://127.0.0.1:{port}/metrics", 'emberq_workers{state="idle"}', 2.0)
            assert samples['emberq_jobs_total{error_code="",state="completed"}'] == 6
            second = subprocess.run(
                command,
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert second.returncode == 1
            assert str(port) in second.stderr
            assert "EMBERQ_METRICS_PORT" in second.stderr
            assert "Traceback" not in second.stderr
        finally:
            crew.terminate()
            crew.wait(40)
