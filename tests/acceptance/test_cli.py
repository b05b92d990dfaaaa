"""The command line as a process, against a running `emberq up`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.paths import CORPUS, EMBERQ
from tests.harness.processes import run_program
from tests.harness.stack import Stack

GOOD = [CORPUS / "zip-bombs-and-sandboxing.md", CORPUS / "fork-copy-on-write-memory.pdf"]


def as_json(stack: Stack, *arguments: str, expect: int = 0) -> Any:
    return json.loads(stack.cli(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def shelf(stack: Stack) -> Iterator[str]:
    """A collection with two files in it."""
    stack.cli("ingest", *map(str, GOOD), "-c", "shelf")
    yield "shelf"
    stack.cli("collections", "delete", "shelf", "--yes")


def test_ingest_says_what_became_of_each_file(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("Kingfishers dive for minnows.")
    (folder / "below" / "a.txt").write_text("Dippers walk under water.")
    (folder / "empty.txt").touch()
    (folder / "picture.pdf").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    outcomes = as_json(stack, "ingest", str(folder), "-c", "birds", "--recursive", expect=1)
    by_name = {Path(one["path"]).relative_to(folder).as_posix(): one for one in outcomes}
    assert by_name["a.txt"]["state"] == by_name["below/a.txt"]["state"] == "completed"
    assert (by_name["empty.txt"]["state"], by_name["empty.txt"]["error"]["code"]) == ("refused", "empty_file")
    assert by_name["picture.pdf"]["error"]["code"] == "unsupported_media_type"
    again = stack.cli("ingest", str(folder), "-c", "birds", "--recursive", expect=1)
    assert "2 unchanged" in again.stdout
    assert "empty_file" in again.stdout


def test_ingest_without_waiting_returns_at_once(stack: Stack) -> None:
    outcomes = as_json(stack, "ingest", str(GOOD[0]), "-c", "later", "--no-wait")
    assert outcomes[0]["job_id"]


def test_search_shows_file_page_and_score(stack: Stack, shelf: str) -> None:
    question = "why freeze the garbage collector before forking"
    results = as_json(stack, "search", question, "-c", shelf, "-k", "2")["results"]
    assert (len(results), results[0]["file"]["name"]) == (2, GOOD[1].name)
    shown = stack.cli("search", question, "-c", shelf, "--mode", "vector").stdout
    assert f"1. {GOOD[1].name}, page" in shown


def test_files_and_jobs_are_listed_and_shown(stack: Stack, shelf: str) -> None:
    files = as_json(stack, "files", "list", "-c", shelf)
    assert {file["name"] for file in files} == {path.name for path in GOOD}
    assert files[0]["name"] in stack.cli("files", "list", "-c", shelf).stdout
    assert as_json(stack, "files", "show", files[0]["id"])["state"] == "completed"
    assert stack.cli("files", "show", files[0]["id"], "--text").stdout.strip()
    job = as_json(stack, "jobs", "show", files[0]["job_id"], "--follow")
    assert job["state"] == "completed"
    assert job["id"] in stack.cli("jobs", "list", "--state", "completed").stdout
    stack.cli("files", "delete", files[0]["id"])
    assert "file_not_found" in stack.cli("files", "show", files[0]["id"], expect=1).stderr


def test_failed_jobs_are_retried_by_code(stack: Stack, tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n ")
    outcome = as_json(stack, "ingest", str(blank), "-c", "blanks", expect=1)[0]
    assert outcome["error"]["code"] == "no_text_found"
    assert as_json(stack, "jobs", "retry", "--error-code", "no_text_found")["retried"] >= 1
    assert as_json(stack, "jobs", "show", outcome["job_id"], "--follow")["state"] == "failed"
    assert "no_text_found" in stack.cli("jobs", "show", outcome["job_id"]).stdout
    stack.cli("jobs", "retry", expect=2)


def test_settings_are_read_changed_and_returned(stack: Stack) -> None:
    assert as_json(stack, "config", "set", "rag_top_k", "7")["value"] == 7
    assert stack.cli("config", "get", "rag_top_k").stdout.strip() == "7"
    assert as_json(stack, "config", "unset", "rag_top_k")["changed"] is False
    assert as_json(stack, "config", "history")[0]["key"] == "rag_top_k"
    assert "rag_top_k" in stack.cli("config", "list").stdout
    refused = stack.cli("config", "set", "rag_top_k", "many", expect=1).stderr
    assert "setting_invalid" in refused
    secret = stack.cli("config", "set", "rag_embedding_api_key", "sk-quiet").stdout
    assert "sk-quiet" not in secret + stack.cli("config", "history").stdout
    stack.cli("config", "unset", "rag_embedding_api_key")


def test_keys_are_made_listed_and_revoked(stack: Stack) -> None:
    key = stack.cli("keys", "create", "robot", "--scope", "read").stdout.strip()
    assert stack.cli("collections", "list", key=key).returncode == 0
    assert "forbidden" in stack.cli("collections", "create", "nope", key=key, expect=1).stderr
    assert key not in stack.cli("keys", "list").stdout
    row = next(one for one in as_json(stack, "keys", "list") if one["name"] == "robot")
    stack.cli("keys", "revoke", row["prefix"])


def test_a_key_is_rotated_and_the_audit_log_says_by_which_key(stack: Stack) -> None:
    old = stack.cli("keys", "create", "my app", "--scope", "read", "--expires", "30d").stdout.strip()
    new = stack.cli("keys", "rotate", "my app", "--grace", "0s").stdout.strip()
    assert stack.cli("collections", "list", key=new).returncode == 0
    row = next(one for one in as_json(stack, "keys", "list") if one["prefix"] == new[:8])
    assert row["last_used_at"] is not None
    stack.cli("keys", "revoke", new[:8])
    assert "key_not_found" in stack.cli("keys", "rotate", "my app", expect=1).stderr

    entries = as_json(stack, "audit", "--limit", "3")
    assert [(entry["action"], entry["target"]) for entry in entries] == [
        ("key.revoke", f"my app ({new[:8]})"),
        ("key.rotate", f"my app ({old[:8]})"),
        ("key.create", f"my app ({old[:8]})"),
    ]
    assert all(entry["actor"] == f"first key ({stack.key[:8]})" for entry in entries)
    assert "not a length of time" in stack.cli("keys", "rotate", "x", "--grace", "soon", expect=2).stderr


def test_commands_on_this_machine_find_the_first_key(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stack.data_dir / "first-api-key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert stack.key not in stack.printed + stack.log.read_text()
    assert str(file) in stack.printed

    monkeypatch.setenv("EMBERQ_DATA_DIR", str(stack.data_dir))
    stack.cli("collections", "list", key="")
    stack.key = stack.cli("keys", "rotate", stack.key[:8], key="").stdout.strip()
    stack.cli("collections", "list", key="")
    assert file.read_text().strip() == stack.key
    monkeypatch.setenv("EMBERQ_DATA_DIR", str(stack.data_dir / "elsewhere"))
    assert "unauthorized" in stack.cli("collections", "list", key="", expect=1).stderr


def test_the_secret_key_is_rotated_while_everything_runs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBERQ_DATA_DIR", str(stack.data_dir))
    file = stack.data_dir / "secret.key"
    before = file.read_text()
    stack.cli("config", "set", "rag_embedding_api_key", "sk-before")
    assert "1 secret settings" in stack.cli("keys", "rotate-secret").stdout
    assert before.strip() not in file.read_text()
    stack.cli("config", "set", "rag_embedding_api_key", "sk-after", "--tenant", "acme")
    done = as_json(stack, "keys", "rotate-secret")
    assert (done["settings"], done["lost"]) == (2, 0)
    assert as_json(stack, "config", "status")["unreadable"] == []
    assert as_json(stack, "audit", "--limit", "1")[0]["action"] == "secret.rotate"
    stack.cli("config", "unset", "rag_embedding_api_key", "--tenant", "acme")
    stack.cli("config", "unset", "rag_embedding_api_key")


def test_a_tenants_key_opens_only_its_own_documents_and_no_settings(stack: Stack) -> None:
    key = stack.cli("keys", "create", "theirs", "--tenant", "acme").stdout.strip()
    stack.cli("collections", "create", "shelf-of-acme", key=key)
    assert "shelf-of-acme" not in stack.cli("collections", "list").stdout
    assert "forbidden" in stack.cli("config", "list", key=key, expect=1).stderr
    row = as_json(stack, "keys", "list", "--tenant", "acme")[0]
    assert (row["name"], row["scopes"]) == ("theirs", ["read", "write"])
    stack.cli("keys", "revoke", row["prefix"], "--tenant", "acme")


def test_status_models_and_doctor_report(stack: Stack) -> None:
    assert as_json(stack, "status")["ready"]["checks"]["database"] == "ok"
    assert "workers: 2 alive" in stack.cli("status").stdout
    assert as_json(stack, "models", "verify")["verified"] is True
    assert [model["name"] for model in as_json(stack, "models", "list")]
    findings = {one["name"]: one["result"] for one in as_json(stack, "doctor")}
    assert (findings["model"], findings["API"], findings["sandbox"]) == ("ok", "ok", "ok")


def test_wrong_use_and_wrong_places_have_their_exit_codes(stack: Stack) -> None:
    assert "unauthorized" in stack.cli("collections", "list", key="eq_wrong", expect=1).stderr
    assert "collection_not_found" in stack.cli("search", "x", "-c", "nowhere", expect=1).stderr
    stack.cli("search", "x", expect=2)
    stack.cli("ingest", "/no/such/file", "-c", "docs", expect=2)
    stack.cli("search", "x", "-c", "docs", "--mode", "psychic", expect=2)
    nowhere = run_program(EMBERQ, "--url", "http://127.0.0.1:9", "status")
    assert nowhere.returncode == 3
    assert "→ Start it with `emberq up`" in nowhere.stderr
