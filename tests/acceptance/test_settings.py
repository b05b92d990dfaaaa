"""Settings through a running `emberq up`: live, applied by k of n, refused, rolled back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet

from tests.harness.eventually import eventually
from tests.harness.stack import Stack


@pytest.fixture
def restored(client: httpx.Client) -> Iterator[int]:
    """The version at the test's begin; the settings are put back to it at the end."""
    version = client.get("/api/v1/settings").json()["version"]
    yield version
    client.post("/api/v1/settings/rollback", json={"version": version}).raise_for_status()


def status(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/api/v1/settings/status").raise_for_status().json()
    return answer


def wait_until_applied(client: httpx.Client, version: int) -> dict[str, Any]:
    return eventually(
        lambda: status(client),
        lambda now: now["applied"] == now["workers"] > 0 and now["version"] >= version,
    )


def test_a_change_is_applied_by_all_workers_and_heard_by_push(client: httpx.Client, restored: int) -> None:
    changed = client.put("/api/v1/settings/rag_chunk_size", json={"value": 123}).json()
    assert (changed["value"], changed["source"], changed["version"]) == (123, "everybody", restored + 1)
    answer = wait_until_applied(client, changed["version"])
    assert (answer["applied"], answer["workers"]) == (2, 2)
    [host] = answer["hosts"]
    assert (host["applied"], host["workers"], host["version"]) == (2, 2, changed["version"])
    assert host["pushed"]
    assert host["unreadable"] == answer["unreadable"] == []


def test_the_command_line_waits_and_tells_how_many_workers_apply_it(
    stack: Stack, client: httpx.Client, restored: int
) -> None:
    assert "Applied by 2 of 2 workers." in stack.cli("config", "set", "rag_chunk_size", "124").stdout
    assert "Applied" not in stack.cli("config", "set", "rag_chunk_size", "125", "--no-wait").stdout
    shown = json.loads(stack.cli("config", "set", "rag_top_k", "9", "--json").stdout)
    assert (shown["value"], shown["applied"], shown["workers"]) == (9, 2, 2)
    told = stack.cli("config", "status").stdout
    assert f"Version {restored + 3}." in told
    assert "2 of 2" in told
    answer = json.loads(stack.cli("config", "status", "--json").stdout)
    assert answer["version"] == restored + 3


def test_settings_that_only_fit_together_are_changed_together(
    stack: Stack, client: httpx.Client, restored: int
) -> None:
    refused = stack.cli("config", "set", "rag_chunk_size", "40", expect=1).stderr
    assert "rag_chunk_overlap must be at most half" in refused
    stack.cli("config", "set", "rag_chunk_size=40", "rag_chunk_overlap=10")
    answer = client.get("/api/v1/settings").json()
    assert answer["version"] == restored + 1
    refused = stack.cli("config", "unset", "rag_chunk_overlap", expect=1).stderr
    assert "rag_chunk_overlap must be at most half" in refused
    stack.cli("config", "unset", "rag_chunk_overlap", "rag_chunk_size")
    assert stack.cli("config", "get", "rag_chunk_size").stdout.strip() == "200"


def test_a_tenants_values_are_checked_together_with_the_common_ones(
    stack: Stack, client: httpx.Client, restored: int
) -> None:
    stack.cli("config", "set", "rag_chunk_overlap", "90", "--tenant", "acme")
    assert stack.cli("config", "get", "rag_chunk_overlap", "--tenant", "acme").stdout.strip() == "90"
    assert stack.cli("config", "get", "rag_chunk_overlap").stdout.strip() == "30"
    answer = client.put("/api/v1/settings/rag_chunk_size", json={"value": 100})
    assert (answer.status_code, answer.json()["code"]) == (422, "setting_invalid")
    assert "'acme'" in answer.json()["detail"]
    removed = client.delete("/api/v1/settings", params={"tenant": "acme"}).json()
    assert {one["source"] for one in removed["items"]} <= {"default", "everybody"}
    client.put("/api/v1/settings/rag_chunk_size", json={"value": 100}).raise_for_status()


def test_a_rollback_restores_everything_as_one_version(
    stack: Stack, client: httpx.Client, restored: int
) -> None:
    stack.cli("config", "set", "rag_embedding_api_key", "sk-quiet", "--no-wait")
    stack.cli("config", "set", "rag_top_k", "9", "--no-wait")
    stack.cli("config", "unset", "rag_embedding_api_key", "--no-wait")
    stack.cli("config", "set", "rag_top_k", "3", "--tenant", "acme", "--no-wait")
    told = stack.cli("config", "rollback", str(restored + 1)).stdout
    assert f"as version {restored + 5}" in told
    assert "Applied by 2 of 2 workers." in told
    answer = {one["key"]: one for one in client.get("/api/v1/settings").json()["items"]}
    assert (answer["rag_embedding_api_key"]["value"], answer["rag_top_k"]["changed"]) == ("***", False)
    changes = client.get("/api/v1/settings/history", params={"limit": 3}).json()["items"]
    assert {one["note"] for one in changes} == {f"rollback to {restored + 1}"}
    assert {(one["key"], one["tenant"]) for one in changes} == {
        ("rag_embedding_api_key", ""),
        ("rag_top_k", ""),
        ("rag_top_k", "acme"),
    }
    assert "sk-quiet" not in stack.cli("config", "history").stdout
    refused = client.post("/api/v1/settings/rollback", json={"version": restored + 99})
    assert (refused.status_code, refused.json()["code"]) == (422, "setting_invalid")
    stack.cli("config", "rollback", str(restored + 99), expect=1)


@pytest.mark.slow
def test_a_setting_that_workers_read_at_their_start_is_applied_by_new_ones(
    own_stack: Callable[..., Stack],
) -> None:
    stack = own_stack(workers=2)
    with stack.http() as client:
        before = {one["pid"] for one in client.get("/api/v1/workers").json()["items"]}
        stack.cli("config", "set", "horse_max_jobs", "7", "--no-wait")
        reason = stack.wait_for_event(event="generation_started", generation=2)["reason"]
        assert reason == "configuration"
        assert status(client)["applied"] < 2
        wait_until_applied(client, 1)
        after = {one["pid"] for one in client.get("/api/v1/workers").json()["items"] if one["alive"]}
        assert not after & before
        stack.cli("config", "set", "rag_top_k", "7")
        stack.cli("config", "set", "rag_chunk_size", "300")
    begun = [one for one in stack.events() if one["event"] == "generation_started"]
    assert len(begun) == 2


@pytest.mark.slow
def test_a_secret_that_cannot_be_read_takes_no_worker_down_and_is_told(
    own_stack: Callable[..., Stack],
) -> None:
    stack = own_stack(environment={"EMBERQ_SECRET_KEY": Fernet.generate_key().decode()})
    stack.cli("config", "set", "rag_embedding_api_key", "sk-quiet")
    stack.cli("config", "set", "rag_top_k", "9")
    assert stack.stop() == 0
    stack.environment["EMBERQ_SECRET_KEY"] = Fernet.generate_key().decode()
    stack.start()
    with stack.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
        job = stack.upload(client, "a.txt", b"Herons stand still.").json()["job"]
        assert stack.wait(client, job["id"])["state"] == "completed"
        answer = status(client)
        assert (answer["applied"], answer["workers"]) == (0, 1)
        [here], [there] = answer["unreadable"], answer["hosts"][0]["unreadable"]
        assert here == there
        assert (here["code"], here["key"]) == ("setting_invalid", "rag_embedding_api_key")
        assert stack.cli("config", "get", "rag_top_k").stdout.strip() == "9"
        assert "cannot use rag_embedding_api_key" in stack.cli("config", "status").stderr
        stack.cli("config", "set", "rag_embedding_api_key", "sk-again")
        assert wait_until_applied(client, 3)["unreadable"] == []
    assert "sk-" not in stack.log.read_text()
