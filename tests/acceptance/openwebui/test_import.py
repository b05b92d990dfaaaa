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
from tests.harness.eventually import LIMIT_SECONDS, eventually, scaled
from tests.harness.paths import EMBERQ
from tests.harness.processes import RunningProgram

#: Files of the import that is killed; the figure of the docs is measured with 1000.
FILES = int(os.environ.get("OPENWEBUI_IMPORT_FILES", "60"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + FILES * 2)]

Run = Callable[..., subprocess.CompletedProcess[str]]


def outcomes_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {outcome["path"]: outcome for outcome in json.loads(done.stdout)}


def start_import(
    server: Server, data_dir: Path, folder: Path, knowledge: str, *options: str
) -> RunningProgram:
    return RunningProgram(
        [EMBERQ, "openwebui", "import", str(folder), "--knowledge", knowledge, *options],
        environment=server.cli_environment(data_dir),
        log=data_dir.with_name("import.log"),
    )


def wait_for_imported(
    webui: OpenWebUIClient, knowledge_id: str, importer: RunningProgram, count: int
) -> None:
    """Wait until an import that runs has uploaded some files."""

    def look() -> int:
        assert importer.is_running, importer.log
        return sum(file.knowledge_id == knowledge_id for file in webui.files(own=True))

    eventually(look, lambda uploaded: uploaded >= count, seconds=LIMIT_SECONDS + scaled(2 * FILES))


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
        importer = start_import(server, tmp_path / "emberq", folder, knowledge.name, "--concurrency", "6")
        wait_for_imported(webui, knowledge.id, importer, (kill + 1) * FILES // 5)
        # A moment by chance: the kill meets whatever is being done then.
        time.sleep(chance.uniform(0, 0.5))
        importer.stop(signal.SIGKILL)
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
    importer = start_import(server, tmp_path / "emberq", folder, knowledge.id, "--stuck-after", "20")
    wait_for_imported(webui, knowledge.id, importer, 6)
    server.stop()
    # Long enough for the import to notice.
    time.sleep(2)
    server.start()
    assert importer.wait(seconds=scaled(400)) == 0, importer.log
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
    importer = start_import(server, tmp_path / "emberq", folder, knowledge.name, "--concurrency", "6")
    wait_for_imported(webui, knowledge.id, importer, 1)
    assert importer.stop(signal.SIGINT) == 130
    assert "Run the command again" in importer.log
    emberq("import", str(folder), "--knowledge", knowledge.name, "--concurrency", "8")
    check_each_is_there_once(webui, knowledge.id, names)


def test_a_server_that_is_away_for_a_while_fails_nothing(
    peer: Peer, webui: OpenWebUIClient, emberq: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    names = [path.relative_to(folder).as_posix() for path in write_files(folder, 4, start=6000)]
    peer.process_status = 503

    def come_back() -> None:
        eventually(lambda: sum(peer.processed.values()), lambda processed: processed >= 4)
        peer.process_status = 200

    thread = threading.Thread(target=come_back, daemon=True)
    thread.start()
    emberq("import", str(folder), "--knowledge", "away", "--create")
    thread.join(LIMIT_SECONDS)
    (knowledge,) = webui.knowledge_named("away")
    check_each_is_there_once(webui, knowledge.id, names)
