from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emberq.errors import InvalidRequest
from emberq.openwebui.sidecar.attempts import Attempts, AttemptsFile, state_path
from emberq.openwebui.sidecar.file_locks import FileLocks, program_lock


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = state_path(tmp_path, "watch", "http://a")
    path.parent.mkdir()
    kept = AttemptsFile(path)
    kept.put("f", Attempts(2, 10.0, 11.0, "away", "k"))
    kept.put("g", Attempts(1))
    again = AttemptsFile(path)
    assert again.get("f") == Attempts(2, 10.0, 11.0, "away", "k")
    again.delete("f")
    assert AttemptsFile(path).get("f") == Attempts()
    again.keep_only({"f"})
    assert AttemptsFile(path).get("g") == AttemptsFile(path).get("f") == Attempts()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    path.write_text('{"f": 3}')
    with pytest.raises(InvalidRequest, match=r"watch\.json"):
        AttemptsFile(path)


def test_each_server_has_a_path_of_its_own(tmp_path: Path) -> None:
    assert state_path(tmp_path, "watch", "http://a") != state_path(tmp_path, "watch", "http://b")
    assert state_path(tmp_path, "import", "http://a", "k") != state_path(tmp_path, "import", "http://a", "l")


def test_only_one_process_runs_a_program(tmp_path: Path) -> None:
    path = state_path(tmp_path, "watch", "http://a")
    with (
        program_lock(path, "watcher"),
        pytest.raises(InvalidRequest, match="Another watcher"),
        program_lock(path, "watcher"),
    ):
        pass
    with program_lock(path, "watcher"):
        pass


def test_a_lock_keeps_other_processes_out_and_ends_with_its_own(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from emberq.openwebui.sidecar.file_locks import FileLocks\n"
        "with FileLocks(Path(sys.argv[1])) as locks, locks.try_lock(sys.argv[2]) as is_locked:\n"
        "    print(is_locked)\n"
    )

    def other(file_id: str) -> str:
        command = [sys.executable, "-c", program, str(tmp_path / "files.json"), file_id]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with FileLocks(tmp_path / "files.json") as locks:
        with locks.try_lock("f") as is_locked:
            assert is_locked
            assert other("f") == "False"
            assert other("g") == "True"
        assert other("f") == "True"
