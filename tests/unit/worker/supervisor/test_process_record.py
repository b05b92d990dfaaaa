from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberq.system.machine import machine_identity
from emberq.system.processes import process_identity
from emberq.worker.supervisor.process_record import ProcessRecord, end_remains

_SUPERVISOR = """
import subprocess, sys
from pathlib import Path
from emberq.worker.supervisor.process_record import ProcessRecord
started = subprocess.Popen(["sleep", "600"])
ProcessRecord(Path(sys.argv[1])).add(started.pid)
print(started.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a process that has recorded another one, which outlives it."""
    command = [sys.executable, "-c", _SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        started = int(running.stdout.readline())
        yield running, started
        running.kill()
    if process_identity(started):
        os.kill(started, signal.SIGKILL)


def test_what_remains_of_a_killed_supervisor_is_ended(
    tmp_path: Path, supervisor: tuple[subprocess.Popen[str], int]
) -> None:
    running, started = supervisor
    assert end_remains(tmp_path) == []
    assert process_identity(started)
    running.kill()
    running.wait()
    assert end_remains(tmp_path) == [started]
    assert process_identity(started) is None
    assert list((tmp_path / "processes").iterdir()) == []


def test_a_later_process_with_the_same_id_and_other_machines_are_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "processes"
    directory.mkdir()
    with subprocess.Popen(["sleep", "600"]) as other:
        dead = [999_999_999, "boot/1"]
        for name, machine, identity in (
            ("1", machine_identity(), "boot/1"),
            ("2", "another machine", process_identity(other.pid)),
        ):
            text = {"machine": machine, "processes": [dead, [other.pid, identity]]}
            (directory / f"{socket.gethostname()}-{name}.json").write_text(json.dumps(text))
        (directory / f"{socket.gethostname()}-3.json").write_text('{"half a rec')
        assert end_remains(tmp_path) == []
        assert process_identity(other.pid)
        other.kill()


def test_the_record_forgets_what_has_ended_and_goes_with_its_owner(tmp_path: Path) -> None:
    record = ProcessRecord(tmp_path)
    with subprocess.Popen(["sleep", "600"]) as one:
        record.add(one.pid)
        one.kill()
    with subprocess.Popen(["sleep", "600"]) as two:
        record.add(two.pid)
        (path,) = (tmp_path / "processes").iterdir()
        assert [pid for pid, _ in json.loads(path.read_text())["processes"]] == [os.getpid(), two.pid]
        two.kill()
    record.remove()
    assert not path.exists()
