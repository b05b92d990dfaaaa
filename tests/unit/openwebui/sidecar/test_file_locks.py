from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emberq.errors import InvalidRequest
from emberq.openwebui.sidecar.attempts import state_path
from emberq.openwebui.sidecar.file_locks import FileLocks, program_lock


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
