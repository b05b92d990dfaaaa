"""A process that the preloader forked ends there, whatever fails in it."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.harness.processes import run_program

SCRIPT = """
import os, sys
from pathlib import Path
from emberq.worker.preloader import fork_server as module
from emberq.worker.preloader.preloader import start_preloader

class ClosedLog:
    def exception(self, *args, **fields):
        raise ValueError("I/O operation on closed file")

def role(spec, channel):
    module.log = ClosedLog()
    raise RuntimeError("on purpose")

try:
    preloader = start_preloader({"role": role})
    preloader.wait_ready()
    child = preloader.fork("role")
    print(os.waitstatus_to_exitcode(preloader.exit_status(child.pid)))
    preloader.stop()
finally:
    with Path(sys.argv[1]).open("a") as file:
        file.write("x")
"""


def test_a_failure_that_cannot_be_logged_does_not_run_on_in_its_parents_code(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    run = run_program(sys.executable, "-c", SCRIPT, ends)
    assert run.stdout.split() == ["1"], run.stderr
    assert ends.read_text() == "x"


STOPPED_BEFORE_THE_ANSWER = """
import time
from emberq.system.messages import send
from emberq.worker.preloader.preloader import start_preloader

preloader = start_preloader({"role": lambda spec, channel: time.sleep(600)})
preloader.wait_ready()
send(preloader.channel, {"fork": "role", "spec": {}})
preloader.stop()
print("ended")
"""


def test_an_owner_that_leaves_before_the_answer_to_its_request_ends_the_preloader() -> None:
    run = run_program(sys.executable, "-c", STOPPED_BEFORE_THE_ANSWER)
    assert run.stdout.split() == ["ended"], run.stderr


RESOURCE_WITH_A_PROCESS = """
import subprocess, sys
from emberq.worker.preloader.preloader import start_preloader
from emberq.worker.resources.resources import resource

@resource
def helper():
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        yield process

preloader = start_preloader({})
preloader.wait_ready()
preloader.stop()
print("ended")
"""


def test_a_process_of_a_resource_does_not_hold_the_end_up() -> None:
    run = run_program(sys.executable, "-c", RESOURCE_WITH_A_PROCESS)
    assert run.stdout.split()[-1] == "ended", run.stderr
