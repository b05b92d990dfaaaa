"""`emberq openwebui import` against a real Open WebUI, killed in the middle again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emberq.openwebui.sidecar.client import OpenWebUIClient
from tests.acceptance.openwebui.conftest import Chunks, Peer, write_files
from tests.acceptance.openwebui.server import Server
from tests.harness.paths import EMBERQ

#: Files of the import that is killed; the figure of the docs is measured with 1000.
FILES = int(os.environ.get("OPENWEBUI_IMPORT_FILES", "60"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + FILES * 2)]

Run = Callable[..., subprocess.CompletedProcess[str]]


def outcomes_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {outcome["path"]: outcome for outcome in json.loads(done.stdout)}


def start_import(server: Server, data_dir: Path, folder: Path, knowledge: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [EMBERQ, "openwebui", "import", str(folder), "--knowledge", knowledge, "--concurrency", "6"],
        env=server.cli_environment(data_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def check_each_is_there_once(webui: OpenWebUIClient, knowledge_id: str, names: list[str]) -> None:
    mine = [file for file in webui.files(own=True) if file.knowledge_id == knowledge_id]
    assert Counter(file.import_path for file in mine) == Counter(names)
    assert {file.status for file in mine} == {"completed"}
    assert {file.id for file in webui.files_in(knowledge_id)} == {file.id for file in mine}
    found = Chunks(webui).of(knowledge_id)
    assert {file_id for file_id, _ in found} == {file.id for file in mine}
    assert max(Counter(found).values()) == 1, "no chunk is there twice"


def test_kills_in_between_leave_no_double_and_no_gap(
    server: Server, peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    knowledge = webui.create_knowledge("killed import")
    folder = tmp_path / "files"
    names = [path.relative_to(folder).as_posix() for path in write_files(folder, FILES)]
    peer.delay = 0.3
    chance = random.Random(7)
    for kill in range(3):
        importer = start_import(server, tmp_path / "emberq", folder, knowledge.name)
        goal = (kill + 1) * FILES // 5
        deadline = time.monotonic() + 120 + FILES
        while sum(file.knowledge_id == knowledge.id for file in webui.files(own=True)) < goal:
            assert importer.poll() is None, importer.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5))
        importer.send_signal(signal.SIGKILL)
        importer.communicate()
    arguments = ["import", str(folder), "--knowledge", knowledge.name, "--concurrency", "6", "--json"]
    outcomes = outcomes_of(emberq(*arguments))
    assert set(outcomes) == set(names)
    states = Counter(outcome["state"] for outcome in outcomes.values())
    assert set(states) == {"imported", "already_there"}
    check_each_is_there_once(webui, knowledge.id, names)
    processed = sum(peer.processed.values())
    assert outcomes_of(emberq(*arguments)).keys() == outcomes.keys()
    assert sum(peer.processed.values()) == processed, "an import that is complete does nothing"


def test_a_kill_of_the_server_does_not_end_the_import(
    server: Server, peer: Peer, webui: OpenWebUIClient, tmp_path: Path
) -> None:
    knowledge = webui.create_knowledge("server killed")
    folder = tmp_path / "files"
    names = [path.relative_to(folder).as_posix() for path in write_files(folder, 12, start=2000)]
    peer.delay = 1.0
    importer = subprocess.Popen(
        [EMBERQ, "openwebui", "import", str(folder), "--knowledge", knowledge.id, "--stuck-after", "20"],
        env=server.cli_environment(tmp_path / "emberq"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while sum(file.knowledge_id == knowledge.id for file in webui.files(own=True)) < 6:
        assert importer.poll() is None, importer.communicate()
        time.sleep(0.1)
    server.stop()
    time.sleep(2)
    server.start()
    printed, complaints = importer.communicate(timeout=200)
    assert importer.returncode == 0, (printed, complaints)
    with server.client() as client:
        check_each_is_there_once(client, knowledge.id, names)


def test_what_cannot_be_imported_is_told_and_the_rest_is_there(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    paths = write_files(folder, 3, start=3000)
    (folder / "copy.md").write_bytes(paths[0].read_bytes())
    (folder / "same-text.md").write_bytes(paths[1].read_bytes() + b"\n")
    (folder / "empty.md").touch()
    (folder / "left-out.bin").write_bytes(b"x")
    (folder / ".hidden").write_text("hidden")
    arguments = ["import", str(folder), "--knowledge", "mixed", "--exclude", "*.bin", "--concurrency", "1"]
    assert "--create" in emberq(*arguments, expect=1).stderr
    done = emberq(*arguments, "--create", expect=1)
    assert "empty.md" in done.stdout
    outcomes = outcomes_of(emberq(*arguments, "--json", expect=1))
    assert set(outcomes) == {
        *(path.relative_to(folder).as_posix() for path in paths),
        "copy.md",
        "same-text.md",
        "empty.md",
    }
    states = Counter(outcome["state"] for outcome in outcomes.values())
    assert states["failed"] == 1
    assert outcomes["empty.md"]["state"] == "failed"
    assert outcomes["empty.md"]["reason"]
    assert states["already_there"] + states["same_content"] == 5
    assert outcomes["copy.md"]["state"] in ("already_there", "same_content")
    (knowledge,) = webui.knowledge_named("mixed")
    assert max(Counter(text for _, text in Chunks(webui).of(knowledge.id)).values()) == 1


def test_a_changed_file_takes_the_place_of_its_older_version(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    changed, kept = write_files(folder, 2, start=4000)
    arguments = ["import", str(folder), "--knowledge", "versions", "--create", "--json"]
    emberq(*arguments)
    changed.write_text("# Anew\n\nEverything in here is different now.")
    outcomes = outcomes_of(emberq(*arguments))
    assert outcomes[changed.relative_to(folder).as_posix()]["state"] == "imported"
    assert outcomes[kept.relative_to(folder).as_posix()]["state"] == "already_there"
    (knowledge,) = webui.knowledge_named("versions")
    assert len(list(webui.files_in(knowledge.id))) == 2
    texts = [text for _, text in Chunks(webui).of(knowledge.id)]
    assert any("different now" in text for text in texts)
    assert not any("note 4000" in text for text in texts)


def test_ctrl_c_stops_gracefully_and_the_next_run_goes_on(
    server: Server, peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    knowledge = webui.create_knowledge("stopped import")
    folder = tmp_path / "files"
    names = [path.relative_to(folder).as_posix() for path in write_files(folder, 15, start=5000)]
    peer.delay = 1.0
    importer = start_import(server, tmp_path / "emberq", folder, knowledge.name)
    while not any(file.knowledge_id == knowledge.id for file in webui.files(own=True)):
        time.sleep(0.1)
    importer.send_signal(signal.SIGINT)
    _, complaints = importer.communicate(timeout=60)
    assert importer.returncode == 130
    assert b"Run the command again" in complaints
    emberq("import", str(folder), "--knowledge", knowledge.name, "--concurrency", "8")
    check_each_is_there_once(webui, knowledge.id, names)


def test_a_server_that_is_away_for_a_while_fails_nothing(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    names = [path.relative_to(folder).as_posix() for path in write_files(folder, 4, start=6000)]
    peer.process_status = 503

    def come_back() -> None:
        while sum(peer.processed.values()) < 4:
            time.sleep(0.05)
        peer.process_status = 200

    thread = threading.Thread(target=come_back, daemon=True)
    thread.start()
    emberq("import", str(folder), "--knowledge", "away", "--create")
    thread.join(timeout=10)
    (knowledge,) = webui.knowledge_named("away")
    check_each_is_there_once(webui, knowledge.id, names)
