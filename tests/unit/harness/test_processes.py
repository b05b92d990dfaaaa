from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.harness.eventually import TooLate, eventually
from tests.harness.process_table import alive
from tests.harness.processes import RunningProgram


def shell(script: str, directory: Path) -> RunningProgram:
    return RunningProgram(["/bin/sh", "-c", script], log=directory / "log")


def test_output_and_records_are_waited_for(tmp_path: Path) -> None:
    script = """echo ready; echo '{"event": "served", "port": 7}'; exec sleep 600"""
    with shell(script, tmp_path) as program:
        assert program.wait_for_print("rea(.*)")[1] == "dy"
        assert program.wait_for_record(event="served")["port"] == 7
        assert program.is_running
    assert not program.is_running


def test_a_program_that_ends_before_its_output_comes_fails_at_once(tmp_path: Path) -> None:
    program = shell("echo only this; exit 3", tmp_path)
    with pytest.raises(AssertionError, match="it ended with 3\nonly this"):
        program.wait_for_print("ready")
    assert program.wait() == 3


def test_a_process_that_outlives_its_program_fails_the_test_and_is_killed(tmp_path: Path) -> None:
    program = shell("sleep 600 & echo $!; wait", tmp_path)
    child = int(program.wait_for_print(r"(\d+)\n")[1])
    with pytest.raises(TooLate, match=str(child)):
        program.stop(seconds=0.5)
    eventually(lambda: not alive([child]))


def test_a_temporary_file_that_is_left_fails_the_test_unless_the_program_was_killed(tmp_path: Path) -> None:
    leaving = 'touch "$TMPDIR/emberq-left"; echo ready; exec sleep 600'
    program = shell(leaving, tmp_path)
    program.wait_for_print("ready")
    with pytest.raises(AssertionError, match="emberq-left"):
        program.stop()
    with shell(leaving, tmp_path) as killed:
        killed.wait_for_print("ready")
        assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
