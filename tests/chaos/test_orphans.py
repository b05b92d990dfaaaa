"""The watch of a campaign finds what outlives its parent, and only that."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.chaos.campaign.orphans import OrphanWatch
from tests.harness.eventually import eventually
from tests.harness.process_table import family_of
from tests.harness.processes import RunningProgram

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")

_PARENT = """
import subprocess, sys
stays = subprocess.Popen(["sleep", "600"])
ends = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print("two", flush=True)
ends.wait()
"""


def test_a_process_that_outlives_its_parent_is_found_and_one_that_ends_with_it_is_not(tmp_path: Path) -> None:
    with RunningProgram([sys.executable, "-c", _PARENT], log=tmp_path / "log") as parent:
        watch = OrphanWatch(lambda: [parent.pid])
        watch.start()
        parent.wait_for_print("two")
        (stays,) = eventually(lambda: [pid for pid in watch.known() if pid in _sleeping(parent.pid)])
        parent.kill()
        try:
            assert eventually(lambda: watch.found) == [f"{stays} sleep 600 "]
            assert watch.longest_seconds > 1
        finally:
            os.kill(stays, signal.SIGKILL)
            watch.stop()


def _sleeping(pid: int) -> list[int]:
    return [one for one in family_of(pid) if Path(f"/proc/{one}/comm").read_text().strip() == "sleep"]
