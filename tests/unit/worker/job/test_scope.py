from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rq.timeouts import JobTimeoutException
from structlog.testing import capture_logs

from emberq.system import kept_open
from emberq.system.kept_open import keep_objects_open, keep_open
from emberq.system.open_handles import child_processes
from emberq.worker.job.scope import current_scope, job_scope
from tests.harness.eventually import eventually


@pytest.fixture(autouse=True)
def holders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_open, "_pools", list(kept_open._pools))
    monkeypatch.setattr(kept_open, "_objects", list(kept_open._objects))
    monkeypatch.setattr(kept_open, "_adopted", kept_open.KeptOpen())


@given(st.lists(st.booleans(), max_size=20))
def test_everything_is_closed_in_reverse_order_whatever_fails(failing: list[bool]) -> None:
    closed: list[int] = []

    def closer(number: int) -> None:
        closed.append(number)
        if failing[number]:
            raise OSError(number)

    with job_scope() as scope:
        for number in range(len(failing)):
            scope.callback(lambda number=number: closer(number))  # type: ignore[misc]
    assert closed == list(reversed(range(len(failing))))
    assert len(scope.failures) == sum(failing)


def test_things_are_closed_when_the_job_raises() -> None:
    closed = []

    @contextlib.contextmanager
    def thing() -> Iterator[str]:
        try:
            yield "open"
        finally:
            closed.append("thing")

    def failing_job() -> None:
        with job_scope() as scope:
            assert scope.enter(thing()) == "open"
            raise ValueError("job")

    with pytest.raises(ValueError, match="job"):
        failing_job()
    assert closed == ["thing"]


def test_a_socket_that_was_registered_is_closed_and_one_that_was_not_is_counted() -> None:
    with job_scope() as scope:
        kept = scope.closing(socket.socket())
    assert kept.fileno() == -1
    assert scope.leaked == {}
    with job_scope() as scope:
        left = socket.socket()
    assert scope.leaked == {"connections": 1}
    assert scope.ends_horse
    left.close()


def test_environment_directory_and_log_context_are_put_back(tmp_path: Path) -> None:
    before, directory = dict(os.environ), Path.cwd()
    with job_scope(job="j1"):
        os.environ["EMBERQ_TEST_LEFT"] = "behind"
        os.chdir(tmp_path)
        assert structlog.contextvars.get_contextvars()["job"] == "j1"
    assert dict(os.environ) == before
    assert Path.cwd() == directory
    assert "job" not in structlog.contextvars.get_contextvars()


def test_the_scope_of_the_running_job_can_be_asked_for() -> None:
    assert current_scope() is None
    with job_scope() as outer:
        with job_scope() as inner:
            assert current_scope() is inner
        assert current_scope() is outer
    assert current_scope() is None


def test_a_context_manager_is_told_that_the_job_failed() -> None:
    ends = []

    @contextlib.contextmanager
    def transaction() -> Iterator[None]:
        try:
            yield
        except ValueError:
            ends.append("rolled back")
            raise
        ends.append("committed")

    def job(*, fails: bool) -> None:
        with job_scope() as scope:
            scope.enter(transaction())
            if fails:
                raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        job(fails=True)
    job(fails=False)
    assert ends == ["rolled back", "committed"]


def test_a_time_out_that_arrives_while_things_are_closed_is_not_swallowed() -> None:
    closed = []

    def interrupted() -> None:
        raise JobTimeoutException

    with pytest.raises(JobTimeoutException), job_scope() as scope:  # noqa: PT012 - the end of it raises
        scope.callback(lambda: closed.append("first"))
        scope.callback(interrupted)
    assert closed == ["first"]


def test_a_file_left_open_is_counted_and_named_and_ends_the_horse(tmp_path: Path) -> None:
    with capture_logs([structlog.contextvars.merge_contextvars]) as logs, job_scope(rq_job="j7") as scope:
        left = (tmp_path / "left.txt").open("w")
    left.close()
    assert scope.leaked == {"descriptors": 1}
    assert scope.ends_horse
    [record] = logs
    assert (record["event"], record["rq_job"], record["descriptors"]) == ("job_leaked", "j7", 1)
    assert record["names"][0].endswith(str(tmp_path / "left.txt"))


def test_a_descriptor_that_takes_the_number_of_a_passing_one_is_seen() -> None:
    with job_scope() as scope:
        # The lowest free number: the one that listing the descriptors takes for itself.
        left = os.open(os.devnull.replace("null", "zero"), os.O_RDONLY)
        pipe = os.pipe()
    for descriptor in (left, *pipe):
        os.close(descriptor)
    # A device is no leak: drivers and the C library keep theirs for the process.
    assert scope.leaked == {"descriptors": 2}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_only_a_reference_cycle_keeps_open_is_closed_and_the_horse_stays() -> None:
    def job() -> None:
        cycle: list[object] = [socket.socket()]
        cycle.append(cycle)

    with job_scope() as scope:
        job()
    assert scope.leaked == {"connections": 1}
    assert scope.uncleaned == {}
    assert not scope.ends_horse


def test_a_thread_left_running_ends_the_horse_and_one_about_to_end_does_not() -> None:
    stop = threading.Event()
    with job_scope() as scope:
        thread = threading.Thread(target=stop.wait, name="left-behind")
        thread.start()
    assert scope.leaked == {"threads": 1}
    assert scope.ends_horse
    stop.set()
    thread.join()
    with job_scope() as scope:
        threading.Thread(target=time.sleep, args=(0.01,)).start()
    assert scope.leaked == {}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_children_left_running_are_killed_with_what_is_below_them_and_the_horse_stays(
    tmp_path: Path,
) -> None:
    note = tmp_path / "grandchild"
    script = f"sleep 600 & echo $! > {note}; wait"
    before = child_processes()
    with job_scope() as scope:
        subprocess.Popen(["/bin/sh", "-c", script])
        forked = os.fork()
        if forked == 0:
            time.sleep(600)
            os._exit(0)
        finished = os.fork()
        if finished == 0:
            os._exit(0)
        eventually(lambda: note.exists() and note.read_text().strip())
    assert scope.leaked == {"children": 3}
    assert not scope.ends_horse
    assert child_processes() == before
    grandchild = int(note.read_text())
    eventually(lambda: not _runs(grandchild))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_temporary_files_are_deleted_and_counted_and_the_horse_stays() -> None:
    outside = tempfile.gettempdir()
    with job_scope() as scope:
        made = [Path(tempfile.mkdtemp()), Path(tempfile.mkstemp()[1])]
        (made[0] / "inside").write_text("x")
        by_child = subprocess.run(["mktemp"], check=True, capture_output=True, text=True).stdout.strip()
        descriptor = os.open(made[1], os.O_RDONLY)
        os.close(descriptor)
    for number in _descriptors_to(str(made[1])):
        os.close(number)
    assert scope.leaked["temporary_files"] == 3
    assert "temporary_files" not in scope.uncleaned
    assert not [path for path in (*made, Path(by_child)) if path.exists()]
    assert tempfile.gettempdir() == outside
    with job_scope() as scope, tempfile.TemporaryFile():
        pass
    assert scope.leaked == {}


def _descriptors_to(target: str) -> list[int]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(entry.readlink()).startswith(target):
                found.append(int(entry.name))
    return found


def test_nothing_more_is_looked_through_once_all_that_was_opened_is_found() -> None:
    asked: list[str] = []
    pool: list[socket.socket] = []
    models: list[socket.socket] = []

    def holder(name: str, kept: list[socket.socket]) -> Callable[[], object]:
        def look() -> object:
            asked.append(name)
            return kept

        return look

    keep_objects_open(holder("objects", models))
    keep_open(holder("pools", pool))
    with job_scope() as scope:
        pool.append(socket.socket())
    assert (scope.leaked, asked) == ({}, ["pools"])
    with job_scope() as scope:
        models.append(socket.socket())
    assert (scope.leaked, asked) == ({}, ["pools", "pools", "objects"])
    for one in pool + models:
        one.close()


def test_what_is_held_on_purpose_is_no_leak() -> None:
    pool: dict[str, object] = {}
    keep_open(lambda: pool)
    with job_scope() as scope:
        executor = ThreadPoolExecutor(1)
        executor.submit(time.sleep, 0).result()
        child = subprocess.Popen(["sleep", "60"])
        pool.update(kept=[socket.socket()], threads=executor, child=child)
        stray = socket.socket()
    assert scope.leaked == {"connections": 1}
    assert child.poll() is None
    child.kill()
    child.wait()
    executor.shutdown()
    stray.close()
    pool["kept"][0].close()  # type: ignore[index]


def test_the_process_is_put_back_as_it_was(tmp_path: Path) -> None:
    import gc
    import locale
    import signal
    import warnings

    def look() -> list[object]:
        mask = os.umask(0o022)
        os.umask(mask)
        root = logging.getLogger()
        return [
            [mask, signal.getsignal(signal.SIGUSR1), signal.getitimer(signal.ITIMER_VIRTUAL)],
            [root.level, root.handlers[:], root.manager.disable],
            [sys.path[:], sys.argv[:], sys.stdout, sys.getrecursionlimit(), gc.isenabled()],
            [locale.setlocale(locale.LC_ALL), socket.getdefaulttimeout(), tempfile.gettempdir()],
            [warnings.filters[:], signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        ]

    before = look()
    with job_scope() as scope:
        os.umask(0o000)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        logging.basicConfig(filename=tmp_path / "log", level=logging.DEBUG, force=True)
        logging.disable(logging.CRITICAL)
        sys.path.insert(0, "/somewhere")
        sys.argv.append("--else")
        sys.stdout = sys.stderr
        sys.setrecursionlimit(5000)
        gc.disable()
        locale.setlocale(locale.LC_ALL, "C")
        socket.setdefaulttimeout(0.5)
        warnings.simplefilter("ignore")
    after = look()
    for was, now in zip(before, after, strict=True):
        assert now == was
    assert scope.leaked == {}


def test_a_timer_of_the_jobs_caller_goes_on() -> None:
    import signal

    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    try:
        with job_scope():
            pass
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def test_context_variables_and_log_fields_get_their_values_back() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("test_variable")
    variable.set("before")
    with structlog.contextvars.bound_contextvars(tenant="t1"):
        with job_scope(job="j1"):
            variable.set("job's")
            structlog.contextvars.bind_contextvars(tenant="t2", stage="left behind")
        assert variable.get() == "before"
        assert structlog.contextvars.get_contextvars() == {"tenant": "t1"}


def test_a_nested_scope_closes_its_own_and_leaves_the_counting_to_the_outermost() -> None:
    with capture_logs() as logs, job_scope() as outer:
        with job_scope() as inner:
            left = socket.socket()
            inner_closed = inner.closing(socket.socket())
            own, tempfile.tempdir = tempfile.tempdir, "/elsewhere"
            assert inner.outermost is outer
        assert inner_closed.fileno() == -1
        assert tempfile.tempdir == own
    left.close()
    assert inner.leaked == {}
    assert outer.leaked == {"connections": 1}
    assert [record["event"] for record in logs] == ["job_leaked"]


def test_scopes_that_overlap_in_threads_leave_the_process_alone_but_close_their_own() -> None:
    inside, leave = threading.Event(), threading.Event()
    closed = []

    def other() -> None:
        with job_scope() as scope:
            scope.callback(lambda: closed.append("other"))
            inside.set()
            leave.wait(timeout=20)

    thread = threading.Thread(target=other)
    with job_scope() as scope:
        thread.start()
        inside.wait(timeout=20)
        scope.callback(lambda: closed.append("own"))
        os.environ["EMBERQ_TEST_SHARED"] = "both may need it"
    # It cannot be told whose the thread is, nor who needs the variable.
    assert scope.leaked == {}
    assert os.environ.pop("EMBERQ_TEST_SHARED") == "both may need it"
    leave.set()
    thread.join()
    assert closed == ["own", "other"]


def test_scopes_work_in_tasks() -> None:
    async def job(number: int) -> list[int]:
        closed: list[int] = []
        with job_scope(job=number) as scope:
            scope.callback(lambda: closed.append(number))
            await asyncio.sleep(0.01)
            assert current_scope() is scope
            assert structlog.contextvars.get_contextvars()["job"] == number
        return closed

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(job(number) for number in range(5)))

    assert asyncio.run(main()) == [[number] for number in range(5)]
    assert current_scope() is None


def test_after_a_thousand_jobs_nothing_has_grown() -> None:
    def counts() -> list[int]:
        return [len(list(Path(f"/proc/self/{kind}").iterdir())) for kind in ("fd", "task")]

    with job_scope():
        pass
    before = counts()
    for _ in range(1000):
        with job_scope(rq_job="j") as scope:
            pass
        assert scope.leaked == {}
    assert counts() == before
