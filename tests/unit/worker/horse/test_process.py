"""How a horse hears that its worker is gone."""

from __future__ import annotations

import os
import subprocess
import sys

REPORTS_TO_NOBODY = """
import socket
from emberq.worker.horse.process import ProgressReporter
ours, theirs = socket.socketpair()
theirs.close()
try:
    ProgressReporter(ours)(1, 2, "embedding")
except Exception:
    print("the job took it for its own failure")
finally:
    print("the job went on")
"""


def test_a_horse_without_a_worker_ends_before_its_job_can_take_that_for_a_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORTS_TO_NOBODY], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (os.EX_UNAVAILABLE, "", "")
