from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberq.worker.job import tempdirs
from emberq.worker.job.tempdirs import (
    discard_directory,
    empty_directory,
    job_directory,
    make_root,
    remove_root,
    temporary_root,
)
from tests.harness.eventually import eventually


@pytest.fixture(autouse=True)
def own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("_root", "_own_root", "_own"):
        monkeypatch.setattr(tempdirs, name, None)
    yield
    remove_root()


def test_every_process_has_a_directory_of_its_own_under_the_root() -> None:
    root = make_root()
    assert job_directory() == str(root / str(os.getpid()))
    pid = os.fork()
    if pid == 0:
        own = job_directory() == str(root / str(os.getpid()))
        os._exit(0 if own else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (root / str(pid)).is_dir()
    discard_directory(pid)
    assert not (root / str(pid)).exists()
    remove_root()
    assert not root.exists()
    assert temporary_root() is None


def test_the_root_of_a_killed_process_is_deleted_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    def start() -> int:
        pid = os.fork()
        if pid == 0:
            made = make_root()
            (made / "left").write_text("x")
            time.sleep(600)
            os._exit(0)
        return pid

    def roots() -> set[Path]:
        return {path.parent for path in tmp_path.glob("emberq-jobs-*/left")}

    killed = start()
    eventually(roots)
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    [abandoned] = roots()
    living = start()
    try:
        [in_use] = eventually(lambda: roots() - {abandoned})
        make_root()
        assert not abandoned.exists()
        assert in_use.exists()
    finally:
        os.kill(living, signal.SIGKILL)
        os.waitpid(living, 0)


def test_emptying_deletes_everything_and_names_it() -> None:
    own = job_directory()
    assert own is not None
    folder = Path(own, "folder")
    folder.mkdir()
    (folder / "inside").write_text("x")
    Path(own, "file").write_text("x")
    Path(own, "link").symlink_to("/")
    assert empty_directory(own) == (["file", "folder", "link"], 0)
    assert list(Path(own).iterdir()) == []
    Path(own).rmdir()
    assert empty_directory(own) == ([], 0)
    assert Path(own).is_dir()


def test_a_job_may_use_what_multiprocessing_made_in_the_directory_of_an_earlier_one() -> None:
    script = """
import multiprocessing
from multiprocessing.connection import Listener
from emberq.worker.job.scope import job_scope

def job(number):
    with Listener(family="AF_UNIX"), multiprocessing.Manager() as manager:
        assert list(manager.list([number])) == [number]

for number in (1, 2):
    with job_scope() as scope:
        job(number)
    print(scope.leaked)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["{}", "{}"]
    assert ran.stderr == ""


def test_where_nothing_can_be_made_jobs_use_the_common_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    assert job_directory() is None


def test_a_process_that_is_no_preloader_has_a_root_of_its_own_which_ends_with_it(tmp_path: Path) -> None:
    script = """
import sys
from emberq.worker.job.scope import job_scope

with job_scope():
    print("in a job", flush=True)
    sys.stdin.read()
"""
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]

    def roots() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    def start() -> subprocess.Popen[bytes]:
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
        assert started.stdout is not None
        started.stdout.readline()
        return started

    with start() as killed:
        left = roots()
        killed.kill()
    with start() as ended:
        assert len(roots()) == 1
        assert roots() != left
        with start() as neighbour:
            assert len(roots()) == 2
            neighbour.communicate()
        ended.communicate()
    assert roots() == []


def test_only_unlocked_directories_of_emberqs_own_names_are_deleted(tmp_path: Path) -> None:
    for name in ("emberq-metrics-left", "emberq-jobs-left", "emberq-venv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").touch()
    (tmp_path / "emberq-jobs-without-a-lock").mkdir()
    root = make_root()
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"emberq-venv", "emberq-jobs-without-a-lock", root.name}
