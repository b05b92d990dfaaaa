"""`emberq worker` on anybody's queue: slots that survive each other and are renewed without a gap."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.eventually import eventually
from tests.harness.paths import EMBERQ
from tests.harness.processes import RunningProgram, run_program
from tests.harness.workers import (
    ENDED,
    WorkerBench,
    stop_job,
    wait_for_status,
    wait_for_stop_request,
    with_account,
)


class SupervisorBench(WorkerBench):
    """A bench for one `emberq worker`, whose processes are looked at."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(url, directory, jobs="warm")
        self.environment["WARM_JOBS_LOADS"] = str(directory / "loads")
        del self.environment["EMBERQ_PRELOAD"]

    def launch(self, *options: str, slots: int = 2, prefix: tuple[str, ...] = ()) -> RunningProgram:
        """Start it."""
        self.supervisor = self.emberq_worker("--preload", self.module, *options, slots=slots, prefix=prefix)
        return self.supervisor

    def start_ready(self, *options: str, slots: int = 2, prefix: tuple[str, ...] = ()) -> RunningProgram:
        """Start it and wait until it serves."""
        self.launch(*options, slots=slots, prefix=prefix).wait_for_print("workers are ready")
        return self.supervisor

    def slots(self) -> list[psutil.Process]:
        """Return the worker processes: children of the supervisor with a queue in their title."""
        return [one for one in self._children() if "preloader" not in _title(one)]

    def preloaders(self) -> list[psutil.Process]:
        """Return the preloaders of all generations."""
        return [one for one in self._children() if "preloader" in _title(one)]

    def _children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.supervisor.pid).children()
        return found


def _title(process: psutil.Process) -> str:
    try:
        # A title is padded to the length of the command that it replaces.
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[SupervisorBench]:
    with SupervisorBench(redis_url, tmp_path) as made:
        yield made


def test_slots_share_one_load_and_survive_each_other(bench: SupervisorBench) -> None:
    bench.start_ready(slots=2)
    loader = bench.answer("where")[1]
    [first, second] = bench.slots()
    first.kill()
    bench.supervisor.was_killed = True
    assert bench.answer("where")[1] == loader
    eventually(lambda: len(bench.slots()) == 2 and first not in bench.slots(), told=bench.log)
    assert second in bench.slots()
    assert (bench.directory / "loads").read_text().split() == [str(loader)]


def test_sighup_loads_anew_and_moves_every_slot_over_without_losing_a_job(bench: SupervisorBench) -> None:
    supervisor = bench.start_ready(slots=2)
    before = bench.answer("where")[1]
    old = bench.slots()
    jobs = [bench.enqueue("sleep", 0.02) for _ in range(20)]
    supervisor.send(signal.SIGHUP)

    def are_all_new() -> bool:
        jobs.append(bench.enqueue("sleep", 0.02))
        return not any(slot.is_running() and slot.status() != "zombie" for slot in old)

    eventually(are_all_new, told=bench.log)
    for job in jobs:
        assert wait_for_status(job, *ENDED, told=bench.log) == "finished"
    assert bench.answer("where")[1] != before
    eventually(lambda: len(bench.preloaders()) == 1, told=bench.log)


def test_a_generation_that_cannot_be_loaded_leaves_the_old_one_at_work(bench: SupervisorBench) -> None:
    (bench.directory / "fragile.py").write_text("value = 1\n")
    supervisor = bench.start_ready("--preload", "fragile", slots=1)
    before = bench.answer("where")
    (bench.directory / "fragile.py").write_text("raise RuntimeError('broken on purpose')\n")
    supervisor.send(signal.SIGHUP)
    bench.supervisor.wait_for_record(event="generation_failed")
    assert "broken on purpose" in bench.log()
    assert bench.answer("where") == before


def test_a_killed_preloader_is_replaced_and_the_queue_goes_on(bench: SupervisorBench) -> None:
    bench.start_ready(slots=2)
    before = bench.answer("where")[1]
    [preloader] = bench.preloaders()
    horses = preloader.children()
    preloader.kill()
    # A job handed to a horse in its last millisecond counts as begun; the promise is for idle horses.
    eventually(lambda: not any(horse.is_running() for horse in horses), told=bench.log)
    assert bench.answer("where")[1] != before
    assert bench.supervisor.is_running


def test_changed_code_is_taken_over_in_development(bench: SupervisorBench) -> None:
    module = bench.directory / "changing.py"
    module.write_text("def value():\n    return 'old'\n")
    bench.start_ready("--reload", "--preload", "changing", slots=1)
    old = bench.queue.enqueue("changing.value")
    wait_for_status(old, "finished", told=bench.log)
    module.write_text("def value():\n    return 'new now'\n")
    # Until then the worker that leaves may still take a job.
    bench.supervisor.wait_for_record(event="generation_ended")
    new = bench.queue.enqueue("changing.value")
    wait_for_status(new, "finished", told=bench.log)
    assert [old.return_value(), new.return_value()] == ["old", "new now"]


def test_sigterm_lets_the_running_job_finish(bench: SupervisorBench) -> None:
    bench.start_ready(slots=1)
    may_end = bench.directory / "may end"
    running, waiting = bench.enqueue("wait_for_file", str(may_end)), bench.enqueue("where")
    wait_for_status(running, "started", told=bench.log)
    bench.supervisor.send(signal.SIGTERM)
    wait_for_stop_request(bench.connection)
    may_end.touch()
    assert bench.supervisor.wait() == 0
    assert running.get_status() == "finished"
    assert waiting.get_status() == "queued"


def test_a_slot_that_stands_still_is_replaced(bench: SupervisorBench) -> None:
    bench.start_ready(slots=1)
    [slot] = bench.slots()
    slot.suspend()
    bench.supervisor.was_killed = True
    eventually(lambda: bench.slots() != [] and slot not in bench.slots(), told=bench.log)
    assert bench.answer("where")


def test_as_pid_1_it_reaps_orphans_and_passes_signals_on(bench: SupervisorBench) -> None:
    isolate = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if run_program(*isolate, "true").returncode:
        pytest.skip("this user may not make process namespaces")
    bench.start_ready(slots=1, prefix=isolate)
    bench.answer("orphan")
    [init] = psutil.Process(bench.supervisor.pid).children()
    eventually(lambda: not [one for one in init.children() if one.status() == "zombie"], told=bench.log)
    eventually(lambda: len(init.children()) == 1, told=bench.log)
    init.terminate()
    assert bench.supervisor.wait() == 0


def test_a_stop_while_it_still_loads_is_an_orderly_one(bench: SupervisorBench) -> None:
    (bench.directory / "slow.py").write_text(
        "import time\nfrom emberq import resource\n\n@resource\ndef slow():\n    time.sleep(600)\n"
    )
    bench.launch("--preload", "slow")
    bench.supervisor.wait_for_record(event="generation_started")
    assert bench.supervisor.stop() == 0


CRASHING = """
from emberq.worker.supervisor.supervisor import Supervisor

def crash(number, preloader, ready):
    raise SystemExit(3)

supervisor = Supervisor(slots=1, run_slot=crash, roles={}, max_crashes=3)
supervisor.start()
raise SystemExit(supervisor.run())
"""


def test_a_slot_that_cannot_live_ends_the_supervisor_with_an_error(tmp_path: Path) -> None:
    done = run_program(sys.executable, "-c", CRASHING, cwd=tmp_path)
    assert done.returncode == 1
    assert "slot 1 died 3 times in a row" in done.stderr


def test_resources_that_cannot_be_loaded_are_told_in_a_sentence(bench: SupervisorBench) -> None:
    done = run_program(
        EMBERQ, "worker", "--preload", "no_such_module_here", "warm", environment=bench.environment
    )
    assert done.returncode == 1
    assert "The resources could not be loaded" in done.stderr
    assert "no_such_module_here" in done.stderr
    assert "Traceback" not in done.stderr.split("The resources could not be loaded")[-1]


def test_titles_say_what_each_process_is_and_no_password(bench: SupervisorBench, redis_url: str) -> None:
    bench.connection.acl_setuser(
        "titled", enabled=True, passwords=["+hidden-word"], keys=["*"], channels=["*"], categories=["+@all"]
    )
    bench.environment["EMBERQ_REDIS_URL"] = with_account(redis_url, "titled", "hidden-word")
    bench.environment["EMBERQ_METRICS_PORT"] = "0"
    supervisor = psutil.Process(bench.start_ready(slots=1).pid)

    def titles() -> list[str]:
        processes = [supervisor, *supervisor.children(recursive=True)]
        # The name of a worker is that of its host, its slot and its process.
        return sorted(re.sub(rf"{socket.gethostname()}-1-\d+", "NAME", _title(one)) for one in processes)

    expected = [
        "emberq: horse NAME: idle",
        "emberq: metrics",
        "emberq: preloader",
        "emberq: supervisor",
        f"emberq: worker NAME: Listening on {bench.queue.name}",
    ]
    eventually(titles, lambda found: found == expected)
    job = bench.enqueue("sleep", 60)
    processing = "emberq: horse NAME: Processing tests.jobs.warm.sleep"
    eventually(titles, lambda found: any(title.startswith(processing) for title in found))
    stop_job(job)
    eventually(titles, lambda found: found == expected)
    bench.connection.acl_deluser("titled")
