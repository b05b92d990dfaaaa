from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emberq.system.processes import (
    is_process_alive,
    process_identity,
    process_name,
    process_state,
)
from tests.harness.eventually import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def test_a_process_is_told_from_its_zombie() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert process_identity(process.pid)
        eventually(lambda: process_name(process.pid), until=lambda name: name == "sleep")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_state(process.pid) == "Z"
        assert process_identity(process.pid) is None
        assert is_process_alive(process.pid)
        process.wait()
        assert not is_process_alive(process.pid)
        assert (process_state(process.pid), process_name(process.pid)) == ("", "")


def test_a_name_with_spaces_and_parentheses_is_no_field(tmp_path: Path) -> None:
    program = tmp_path / "a) X (b 1"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        try:
            # The kernel gives the new name a moment after `Popen` hears of the exec.
            eventually(lambda: process_name(process.pid), until=lambda name: name == program.name)
            assert process_state(process.pid) in {"R", "S", "D"}
        finally:
            process.kill()


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "from emberq.system.processes import die_with_parent; die_with_parent(1); print('lives')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
