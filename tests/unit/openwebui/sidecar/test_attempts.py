from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emberq.errors import InvalidRequest
from emberq.openwebui.sidecar.attempts import Attempts, AttemptsFile, hold, place
from emberq.openwebui.sidecar.file_locks import FileLocks


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = place(tmp_path, "watch", "http://a")
    path.parent.mkdir()
    kept = AttemptsFile(path)
    kept.put("f", Attempts(2, 10.0, 11.0, "away", "k"))
    kept.put("g", Attempts(1))
    again = AttemptsFile(path)
    assert again.get("f") == Attempts(2, 10.0, 11.0, "away", "k")
    again.put("f", None)
    again.keep_only({"f"})
    assert AttemptsFile(path).get("g") == AttemptsFile(path).get("f") == Attempts()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    path.write_text('{"f": 3}')
    with pytest.raises(InvalidRequest, match=r"watch\.json"):
        AttemptsFile(path)


def test_servers_have_places_of_their_own(tmp_path: Path) -> None:
    assert place(tmp_path, "watch", "http://a") != place(tmp_path, "watch", "http://b")
    assert place(tmp_path, "import", "http://a", "k") != place(tmp_path, "import", "http://a", "l")


def test_only_one_holds_a_place(tmp_path: Path) -> None:
    path = place(tmp_path, "watch", "http://a")
    with hold(path, "watcher"), pytest.raises(InvalidRequest, match="Another watcher"), hold(path, "watcher"):
        pass
    with hold(path, "watcher"):
        pass


def test_a_claim_keeps_other_processes_out_and_ends_with_its_own(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from emberq.openwebui.sidecar.file_locks import FileLocks\n"
        "with FileLocks(Path(sys.argv[1])) as claims, claims.take(sys.argv[2]) as got:\n"
        "    print(got)\n"
    )

    def other(file_id: str) -> str:
        command = [sys.executable, "-c", program, str(tmp_path / "files.json"), file_id]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with FileLocks(tmp_path / "files.json") as claims:
        with claims.take("f") as got:
            assert got
            assert other("f") == "False"
            assert other("g") == "True"
        assert other("f") == "True"
