"""`emberq worker` on anybody's queue: slots that survive each other and are renewed without a gap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.harness.paths import EMBERQ, python_path


class Crew:
    """One `emberq worker` and the queue it serves."""

    def __init__(self, url: str, directory: Path) -> None:
        self.connection = Redis.from_url(url)
        self.queue = Queue("warm", connection=self.connection, serializer=JSONSerializer)
        self.directory = directory
        self.log = directory / "log"
        self.environment = {
            **os.environ,
            "EMBERQ_REDIS_URL": url,
            "EMBERQ_LOG_FORMAT": "json",
            "WARM_JOBS_LOADS": str(directory / "loads"),
            "PYTHONPATH": python_path(),
        }
        self.process: subprocess.Popen[str] | None = None

    def launch(self, *options: str, slots: int = 2, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*prefix, EMBERQ, "worker", "-n", str(slots), "--preload", "tests.jobs.warm"]
        serializer = ["--serializer", "rq.serializers.JSONSerializer"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *serializer, *options, "warm"],
                env=self.environment,
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self.process

    def start(self, *options: str, slots: int = 2, prefix: tuple[str, ...] = ()) -> psutil.Process:
        process = self.launch(*options, slots=slots, prefix=prefix)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "ready" in line, self.log.read_text()[-3000:]
        return psutil.Process(process.pid)

    def stop(self, target: psutil.Process | None = None, *, seconds: float = 30) -> int:
        """Send SIGTERM, to the process started or to one below it, and return the exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        (target or process).terminate()
        try:
            return process.wait(timeout=seconds)
        finally:
            process.kill()
            process.communicate()

    def enqueue(self, name: str, *args: Any, **options: Any) -> Job:
        return self.queue.enqueue(f"tests.jobs.warm.{name}", args=args, **options)

    def answer(self, name: str, *args: Any, seconds: float = 30) -> Any:
        job = self.enqueue(name, *args)
        self.until(lambda: job.get_status() in ("finished", "failed"), seconds=seconds)
        assert job.get_status() == "finished", job.latest_result()
        return job.return_value()

    def until(self, holds: Callable[[], bool], *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def slots(self) -> list[psutil.Process]:
        """The worker processes: children of the supervisor with a horse's queue in their title."""
        assert self.process is not None
        return [one for one in psutil.Process(self.process.pid).children() if "preloader" not in _title(one)]

    def preloaders(self) -> list[psutil.Process]:
        assert self.process is not None
        return [one for one in psutil.Process(self.process.pid).children() if "preloader" in _title(one)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def crew(redis_url: str, tmp_path: Path) -> Iterator[Crew]:
    made = Crew(redis_url, tmp_path)
    yield made
    family = psutil.Process(made.process.pid).children(recursive=True) if made.process else []
    made.stop()
    made.connection.close()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive


def test_slots_share_one_load_and_survive_each_other(crew: Crew) -> None:
    crew.start(slots=2)
    loader = crew.answer("where")[1]
    [first, second] = crew.slots()
    first.kill()
    assert crew.answer("where")[1] == loader
    crew.until(lambda: len(crew.slots()) == 2 and first not in crew.slots())
    assert second in crew.slots()
    assert (crew.directory / "loads").read_text().split() == [str(loader)]


def test_sighup_loads_anew_and_moves_every_slot_over_without_losing_a_job(crew: Crew) -> None:
    supervisor = crew.start(slots=2)
    before = crew.answer("where")[1]
    old = crew.slots()
    jobs = [crew.enqueue("sleep", 0.02) for _ in range(20)]
    supervisor.send_signal(signal.SIGHUP)
    while any(slot.is_running() and slot.status() != "zombie" for slot in old):
        jobs.append(crew.enqueue("sleep", 0.02))
        time.sleep(0.02)
        assert len(jobs) < 3000, crew.log.read_text()[-3000:]
    crew.until(lambda: all(job.get_status() in ("finished", "failed") for job in jobs))
    assert {job.get_status().value for job in jobs} == {"finished"}
    assert crew.answer("where")[1] != before
    crew.until(lambda: len(crew.preloaders()) == 1)


def test_a_generation_that_cannot_be_loaded_leaves_the_old_one_at_work(crew: Crew) -> None:
    (crew.directory / "fragile.py").write_text("value = 1\n")
    supervisor = crew.start("--preload", "fragile", slots=1)
    before = crew.answer("where")
    (crew.directory / "fragile.py").write_text("raise RuntimeError('broken on purpose')\n")
    supervisor.send_signal(signal.SIGHUP)
    crew.until(lambda: "generation_failed" in crew.log.read_text())
    assert "broken on purpose" in crew.log.read_text()
    assert crew.answer("where") == before


def test_a_killed_preloader_is_replaced_and_the_queue_goes_on(crew: Crew) -> None:
    crew.start(slots=2)
    before = crew.answer("where")[1]
    [preloader] = crew.preloaders()
    horses = preloader.children()
    preloader.kill()
    # A job handed to a horse in its last millisecond counts as begun; only an idle crew is promised here.
    crew.until(lambda: not any(horse.is_running() for horse in horses))
    assert crew.answer("where")[1] != before
    assert crew.process is not None
    assert crew.process.poll() is None


def test_changed_code_is_taken_over_in_development(crew: Crew) -> None:
    module = crew.directory / "changing.py"
    module.write_text("def value():\n    return 'old'\n")
    crew.start("--reload", "--preload", "changing", slots=1)
    old = crew.queue.enqueue("changing.value")
    crew.until(lambda: old.get_status() == "finished")
    module.write_text("def value():\n    return 'new now'\n")
    # Until then the worker that leaves may still take a job.
    crew.until(lambda: "generation_ended" in crew.log.read_text())
    new = crew.queue.enqueue("changing.value")
    crew.until(lambda: new.get_status() == "finished")
    assert [old.return_value(), new.return_value()] == ["old", "new now"]


def test_sigterm_lets_the_running_job_finish(crew: Crew) -> None:
    crew.start(slots=1)
    running, waiting = crew.enqueue("sleep", 1.5), crew.enqueue("sleep", 0)
    crew.until(lambda: running.get_status() == "started")
    assert crew.stop() == 0
    assert running.get_status() == "finished"
    assert waiting.get_status() == "queued"


def test_a_slot_that_stands_still_is_replaced(crew: Crew) -> None:
    crew.start(slots=1)
    [slot] = crew.slots()
    slot.suspend()
    crew.until(lambda: crew.slots() != [] and slot not in crew.slots(), seconds=40)
    assert crew.answer("where")


def test_as_pid_1_it_reaps_orphans_and_passes_signals_on(crew: Crew) -> None:
    isolate = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*isolate, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make process namespaces")
    crew.start(slots=1, prefix=isolate)
    crew.answer("orphan")
    assert crew.process is not None
    [init] = psutil.Process(crew.process.pid).children()
    crew.until(lambda: not [one for one in init.children() if one.status() == "zombie"])
    crew.until(lambda: len(init.children()) == 1)
    assert crew.stop(init) == 0


def test_a_stop_while_it_still_loads_is_an_orderly_one(crew: Crew) -> None:
    (crew.directory / "slow.py").write_text(
        "import time\nfrom emberq import resource\n\n@resource\ndef slow():\n    time.sleep(60)\n"
    )
    crew.launch("--preload", "slow")
    crew.until(lambda: "generation_started" in crew.log.read_text())
    assert crew.stop() == 0


CRASHING = """
from emberq.worker.supervisor.supervisor import Supervisor

def crash(number, preloader, ready):
    raise SystemExit(3)

crew = Supervisor(slots=1, run_slot=crash, roles={}, max_crashes=3)
crew.start()
raise SystemExit(crew.run())
"""


def test_a_slot_that_cannot_live_ends_the_supervisor_with_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHING],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "slot 1 died 3 times in a row" in done.stderr


def test_resources_that_cannot_be_loaded_are_told_in_a_sentence(crew: Crew) -> None:
    done = subprocess.run(
        [EMBERQ, "worker", "--preload", "no_such_module_here", "warm"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=crew.environment,
    )
    assert done.returncode == 1
    assert "The resources could not be loaded" in done.stderr
    assert "no_such_module_here" in done.stderr
    assert "Traceback" not in done.stderr.split("The resources could not be loaded")[-1]
