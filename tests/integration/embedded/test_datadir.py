from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import emberq
from emberq.embedded import DataDirectory, DataDirectoryError, DataDirectoryInUse
from emberq.errors import InvalidRequest, error_for_code

_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(emberq.__file__).parents[1])}

_HOLDER = """
import os, sys, time
from emberq.embedded import DataDirectory
DataDirectory(sys.argv[1], purpose="emberq up").acquire()
if not os.fork():
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_directory_held_in_this_process_is_refused_with_its_holder_named(tmp_path: Path) -> None:
    path = tmp_path / "a dir ü"
    with DataDirectory(path, purpose="emberq up"):
        with pytest.raises(DataDirectoryInUse) as refused:
            DataDirectory(path).acquire()
        assert str(path) in refused.value.message
        assert f"emberq up (pid {os.getpid()}" in refused.value.message
        assert "--data-dir" in refused.value.hint
    with DataDirectory(path) as again:
        assert again.is_locked


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "one" / "two") as data:
        assert data.path.stat().st_mode & 0o066 == 0
        assert data.make("inner").stat().st_mode & 0o066 == 0


def test_a_killed_holder_gives_the_directory_free_although_its_fork_lives_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT
    ) as holder:
        assert holder.stdout is not None
        forked = int(holder.stdout.readline())
        try:
            with pytest.raises(DataDirectoryInUse, match=f"pid {holder.pid}"):
                DataDirectory(tmp_path).acquire()
            holder.kill()
            holder.wait()
            os.kill(forked, 0)
            with DataDirectory(tmp_path):
                pass
        finally:
            holder.kill()
            os.kill(forked, signal.SIGKILL)


def test_a_dead_holders_lock_is_waited_for_while_its_child_is_about_to_let_go(tmp_path: Path) -> None:
    lock_file = tmp_path / "emberq.lock"
    lock_file.write_text(
        '{"pid": 999999999, "process": "boot/1", "since": "2026-01-01", "runs": "emberq up"}'
    )
    with lock_file.open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(["sleep", "0.5"], pass_fds=[lock.fileno()]):
            lock.close()
            with DataDirectory(tmp_path) as data:
                assert data.is_locked


def test_the_directory_errors_are_invalid_requests_and_leave_the_code_to_them() -> None:
    assert DataDirectoryInUse().code == "invalid_request"
    assert error_for_code("invalid_request") is InvalidRequest


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryError, match="cannot be used"):
        DataDirectory(tmp_path / "file").acquire()


def test_a_link_in_a_private_directorys_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with DataDirectory(tmp_path / "data") as data:
        (data.path / "run").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataDirectoryError, match="not trusted"):
            data.make("run")


@pytest.mark.parametrize("name", ["x" * 120, "with,comma", 'with"quote'])
def test_sockets_move_to_a_short_private_directory_where_the_path_would_not_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="eq") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        with DataDirectory(tmp_path / name) as data:
            made = data.make_socket_directory()
            assert made.parent == Path(runtime)
            assert made.name.startswith("emberq-")
            assert made.stat().st_mode & 0o066 == 0
            assert DataDirectory(tmp_path / name).socket_directory == made
            assert DataDirectory(tmp_path / f"{name}2").socket_directory != made
        assert not made.exists()


def test_a_short_path_keeps_its_sockets_inside() -> None:
    with tempfile.TemporaryDirectory(prefix="eq ü") as short:
        assert DataDirectory(short).socket_directory == Path(short) / "run"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_a_socket_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="eq") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        data = DataDirectory(tmp_path / ("x" * 120))
        data.socket_directory.mkdir()
        os.chown(data.socket_directory, 65534, 65534)
        with pytest.raises(DataDirectoryError, match="not trusted"):
            data.make_socket_directory()
