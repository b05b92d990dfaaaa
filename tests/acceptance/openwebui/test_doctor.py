"""`emberq openwebui doctor` and `settings` against a real Open WebUI."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emberq.openwebui.doctor.recommended import PREFIXES
from tests.acceptance.openwebui.conftest import Peer
from tests.acceptance.openwebui.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Run = Callable[..., subprocess.CompletedProcess[str]]


def findings_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def write_env(path: Path, environment: dict[str, str]) -> str:
    path.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    return str(path)


def test_it_reads_the_live_settings_and_the_environment(server: Server, emberq: Run, tmp_path: Path) -> None:
    env_file = write_env(tmp_path / "env", {**server.environment, **PREFIXES})
    findings = findings_of(emberq("doctor", "--env-file", env_file, "--json"))
    # This server of a few tests has SQLite.
    assert [name for name, found in findings.items() if found["result"] != "ok"] == ["database"], findings
    assert "384 dimensions" in findings["embedding model"]["detail"]
    shown = emberq("doctor", "--env-file", env_file).stdout
    assert "loader-key" not in shown
    assert "embedding-key" not in shown


def test_it_finds_what_bites(server: Server, peer: Peer, emberq: Run, tmp_path: Path) -> None:
    bad = {**server.environment, "UVICORN_WORKERS": "4", "RAG_EMBEDDING_MODEL": "another-model"}
    for name in ("THREAD_POOL_SIZE", "ENABLE_PERSISTENT_CONFIG"):
        del bad[name]
    peer.process_status, peer.embeddings_status = 401, 503
    findings = findings_of(
        emberq("doctor", "--env-file", write_env(tmp_path / "env", bad), "--json", expect=1)
    )
    failed = {name for name, finding in findings.items() if finding["result"] == "fail"}
    assert failed == {
        "document loader",
        "embeddings",
        "thread pool",
        "persistent configuration",
        "vector database",
    }
    assert "401" in findings["document loader"]["detail"]
    assert "RAG_EMBEDDING_MODEL" in findings["persistent configuration"]["detail"]
    assert all(findings[name]["fix"] for name in failed)
    shown = emberq("doctor", "--env-file", str(tmp_path / "env"), expect=1).stdout
    assert "→ THREAD_POOL_SIZE=200" in shown


def test_without_an_environment_it_says_what_it_cannot_know(emberq: Run) -> None:
    findings = findings_of(emberq("doctor", "--json"))
    assert findings["thread pool"]["result"] == "warning"
    assert "--env-file" in findings["thread pool"]["fix"]


def test_the_settings_are_printed_with_and_without_a_key(emberq: Run) -> None:
    block = emberq("settings", "--emberq-url", "http://emberq:8040").stdout
    assert "EXTERNAL_DOCUMENT_LOADER_API_KEY=EMBERQ-KEY\n" in block
    assert "RAG_OPENAI_API_BASE_URL=http://emberq:8040/v1\n" in block
    settings = json.loads(emberq("settings", "--key", "eq_of_the_tenant", "--json").stdout)
    assert settings["RAG_OPENAI_API_KEY"] == "eq_of_the_tenant"
    assert settings["THREAD_POOL_SIZE"] == "200"
