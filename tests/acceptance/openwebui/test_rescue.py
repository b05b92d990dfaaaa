"""`emberq openwebui watch` against a real Open WebUI that is killed, or whose servers are away."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emberq.openwebui.sidecar.client import OpenWebUIClient
from tests.acceptance.openwebui.conftest import Chunks, Peer, wait_for_status, write_files
from tests.acceptance.openwebui.server import EMAIL, PASSWORD, Server
from tests.harness.paths import EMBERQ
from tests.harness.processes import RunningProgram

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Run = Callable[..., subprocess.CompletedProcess[str]]


def reports_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {report["file_id"]: report for report in json.loads(done.stdout)}


def test_kill_9_of_the_server_loses_no_file(
    server: Server, peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    knowledge = webui.create_knowledge("after the kill")
    paths = write_files(tmp_path / "files", 8)
    done_before = webui.upload(paths[0], paths[0].name, {"knowledge_id": knowledge.id})
    wait_for_status(webui, [done_before.id], "completed")
    peer.delay = 20.0
    linked = [webui.upload(path, path.name, {"knowledge_id": knowledge.id}) for path in paths[1:5]]
    alone = [webui.upload(path, path.name, {}) for path in paths[5:]]
    wait_for_status(webui, [file.id for file in linked + alone], "processing")
    server.stop()
    peer.delay = 0.0
    server.start()
    with server.client() as client:
        wait_for_status(client, [file.id for file in linked + alone], "processing")
        # A file is taken for stuck when it has not changed for a second.
        time.sleep(2)
        reports = reports_of(emberq("watch", "--once", "--stuck-after", "1", "--json"))
        assert {reports[file.id]["outcome"] for file in linked + alone} == {"completed"}
        assert done_before.id not in reports
        assert {client.status_of(file.id) for file in linked + alone} == {"completed"}
        assert {file.id for file in client.files_in(knowledge.id)} == {
            file.id for file in [done_before, *linked]
        }
        per_file = Counter(file_id for file_id, _ in Chunks(client).of(knowledge.id))
        assert set(per_file) == {file.id for file in [done_before, *linked]}
        assert len(set(per_file.values())) == 1, "each file has the same number of chunks, none of them twice"
        assert Counter(file_id for file_id, _ in Chunks(client).of(f"file-{alone[0].id}")) == {
            alone[0].id: per_file[done_before.id]
        }
        assert "Nothing is stuck" in emberq("watch", "--once", "--stuck-after", "1").stdout


def test_a_file_that_failed_as_its_server_was_away_is_processed_again(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, chunks: Chunks, tmp_path: Path
) -> None:
    knowledge = webui.create_knowledge("after the outage")
    paths = write_files(tmp_path / "files", 3, start=20)
    peer.process_status = 503
    away = webui.upload(paths[0], paths[0].name, {"knowledge_id": knowledge.id})
    wait_for_status(webui, [away.id], "failed")
    peer.process_status, peer.embeddings_status = 200, 502
    no_vectors = webui.upload(paths[1], paths[1].name, {"knowledge_id": knowledge.id})
    wait_for_status(webui, [no_vectors.id], "failed")
    peer.process_status, peer.embeddings_status = 422, 200
    damaged = webui.upload(paths[2], paths[2].name, {"knowledge_id": knowledge.id})
    wait_for_status(webui, [damaged.id], "failed")
    peer.process_status = 200
    reports = reports_of(emberq("watch", "--once", "--json"))
    assert {reports[one.id]["outcome"] for one in (away, no_vectors)} == {"completed"}
    assert "503" in reports[away.id]["reason"]
    assert "502" in reports[no_vectors.id]["reason"]
    assert damaged.id not in reports, "what is wrong with the file itself is not tried again"
    assert {file.id for file in webui.files_in(knowledge.id)} == {away.id, no_vectors.id}
    per_file = Counter(file_id for file_id, _ in chunks.of(knowledge.id))
    assert len(per_file) == 2
    assert len(set(per_file.values())) == 1


def test_it_gives_up_in_the_end_and_remembers_that(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    path = write_files(tmp_path / "files", 1, start=30)[0]
    peer.process_status = 503
    file = webui.upload(path, path.name, {})
    wait_for_status(webui, [file.id], "failed")
    before = peer.processed[path.name]
    report = reports_of(emberq("watch", "--once", "--max-attempts", "2", "--json", expect=1))[file.id]
    assert (report["outcome"], report["attempts"]) == ("gave_up", 2)
    assert "503" in report["reason"]
    assert peer.processed[path.name] == before + 2
    peer.process_status = 200
    again = emberq("watch", "--once", "--max-attempts", "2", expect=1)
    assert "gave up after 2 attempts" in again.stdout
    assert peer.processed[path.name] == before + 2
    emberq("watch", "--once", "--forget")
    assert webui.status_of(file.id) == "completed"


def test_a_file_that_may_be_at_work_is_left_alone(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    path = write_files(tmp_path / "files", 1, start=40)[0]
    peer.delay = 5.0
    file = webui.upload(path, path.name, {})
    wait_for_status(webui, [file.id], "processing")
    report = reports_of(emberq("watch", "--once", "--json"))[file.id]
    assert report["outcome"] == "at_work"
    wait_for_status(webui, [file.id], "completed")
    assert peer.processed[path.name] == 1


def test_two_watchers_are_refused_and_the_running_one_heals(
    server: Server, peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    path = write_files(tmp_path / "files", 1, start=50)[0]
    with RunningProgram(
        [EMBERQ, "openwebui", "watch", "--interval", "1"],
        environment={**server.cli_environment(tmp_path / "emberq"), "EMBERQ_LOG_FORMAT": "json"},
        log=tmp_path / "watch.log",
        printed=tmp_path / "watch.out",
    ) as watcher:
        peer.process_status = 503
        file = webui.upload(path, path.name, {})
        wait_for_status(webui, [file.id], "failed")
        peer.process_status = 200
        wait_for_status(webui, [file.id], "completed")
        assert "Another watcher" in emberq("watch", "--once", expect=1).stderr
        assert watcher.stop() == 0
    watcher.wait_for_record(event="openwebui_file_ended", outcome="completed")


def test_a_wrong_key_is_told_without_showing_it(emberq: Run) -> None:
    done = emberq("watch", "--once", "--token", "not-a-token", expect=1)
    assert "unauthorized" in done.stderr
    assert "not-a-token" not in done.stderr


def test_an_ordinary_account_is_told_that_it_does_not_suffice(webui: OpenWebUIClient, emberq: Run) -> None:
    body = {"name": "Ada", "email": "ada@example.org", "password": "a-password-of-ada", "role": "user"}
    token = webui.post("/api/v1/auths/add", body)["token"]
    assert "forbidden" in emberq("watch", "--once", "--token", token, expect=1).stderr


def test_email_and_password_do_as_well(emberq: Run) -> None:
    account = {"EMBERQ_OPENWEBUI_EMAIL": EMAIL, "EMBERQ_OPENWEBUI_PASSWORD": PASSWORD}
    assert emberq("watch", "--once", EMBERQ_OPENWEBUI_API_KEY="", **account).stdout


def test_a_server_that_is_away_ends_with_3(emberq: Run) -> None:
    done = emberq("watch", "--once", "--url", "http://127.0.0.1:1", "--token", "x", expect=3)
    assert "openwebui_unavailable" in done.stderr
