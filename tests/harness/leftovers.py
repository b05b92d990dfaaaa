"""What a run of the tests leaves behind: processes, and directories among the temporary files."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import uuid
from pathlib import Path

from tests.harness.eventually import came_true, scaled
from tests.harness.process_table import alive, parent_of, running_in
from tests.harness.processes import send

__all__ = ["TestRun"]

#: The environment variable by which processes of a run are known.
_MARK = "TEST_RUN"
#: Seconds in which processes may end that were told to.
_END_SECONDS = scaled(20.0)


class TestRun:
    """One run of the tests, from its begin to its end, in the process that controls it.

    Invariant: temporary files of the tests lie in a directory of the run, which its end removes.
    """

    __test__ = False

    def __init__(self) -> None:
        """Begin: give all processes that are started from now on a mark and a directory."""
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        self._known = set(_pids())
        # pytest's own directories stay where they are kept for a look after a failure.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        self._directory = Path(tempfile.mkdtemp(prefix="eq-"))
        self._directory.chmod(0o1777)
        os.environ[_MARK] = self._mark.removeprefix(f"{_MARK}=")
        os.environ["TMPDIR"] = str(self._directory)
        tempfile.tempdir = None

    def end(self, tests_directory: Path) -> list[str]:
        """Remove what is left, and return a line for each process and each of emberq's directories.

        Args:
            tests_directory: Where pytest put the directories of the tests.
        """
        came_true(lambda: not self._processes(tests_directory), seconds=_END_SECONDS)
        processes = self._processes(tests_directory)
        lines = [f"process {pid}: {_read(pid, 'cmdline')}" for pid in processes]
        for pid in processes:
            send(pid, signal.SIGKILL)
        lines += [f"directory {path.name}" for path in sorted(self._directory.glob("emberq-*"))]
        shutil.rmtree(self._directory, ignore_errors=True)
        return lines

    def _processes(self, tests_directory: Path) -> list[int]:
        own = os.getpid()
        found = {*running_in(tests_directory), *running_in(self._directory)}
        found |= {pid for pid in _pids() if pid not in self._known and self._is_of_this_run(pid)}
        return alive(sorted(found - {own}))

    def _is_of_this_run(self, pid: int) -> bool:
        if self._mark in _read(pid, "environ"):
            return True
        # A process title overwrites the environment; an orphan that uses this installation tells by that.
        return parent_of(pid) == 1 and f"{sys.prefix}/" in _read(pid, "maps")


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
