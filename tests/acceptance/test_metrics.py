"""Metrics of a whole installation: at the API, at the host's own port, and of a crew for any RQ queue."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from emberq.testing.ports import free_port
from emberq.testing.valkey import ValkeyServer
from tests.harness.eventually import eventually, scaled
from tests.harness.paths import EMBERQ
from tests.harness.processes import run_program
from tests.harness.stack import Stack
from tests.harness.workers import WorkerBench

Samples = dict[str, float]


def scrape(url: str) -> Samples:
    """Return samples by `name{label="value",…}`, the labels in order; no family may come twice."""
    text = httpx.get(url, timeout=scaled(60)).text
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


def wait_for(url: str, name: str, value: float) -> Samples:
    """Wait until a sample has a value, and return all samples."""
    return eventually(lambda: scrape(url), lambda found: found.get(name) == value, despite=httpx.HTTPError)


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
    stack.kill()
    stack.start()
    [now] = (stack.data_dir / "metrics").iterdir()
    assert now != left


def test_emberq_worker_serves_the_metrics_of_any_queue_and_tells_of_a_taken_port(tmp_path: Path) -> None:
    port = free_port()
    with ValkeyServer(tmp_path / "valkey") as server, WorkerBench(server.url, tmp_path, jobs="warm") as bench:
        bench.environment["EMBERQ_METRICS_PORT"] = str(port)
        bench.emberq_worker("--preload", bench.module)
        for _ in range(6):
            bench.run("where")
        url = f"http://127.0.0.1:{port}/metrics"
        samples = wait_for(url, "emberq_job_duration_seconds_count{}", 6.0)
        wait_for(url, 'emberq_workers{state="idle"}', 2.0)
        assert samples['emberq_jobs_total{error_code="",state="completed"}'] == 6
        second = run_program(EMBERQ, "worker", "-n", "2", "warm", environment=bench.environment, cwd=tmp_path)
        assert second.returncode == 1
        assert str(port) in second.stderr
        assert "EMBERQ_METRICS_PORT" in second.stderr
        assert "Traceback" not in second.stderr
