from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberq.system.file_lock import lock_byte, lock_file, locked_file, open_lock_file, unlock_byte

OTHER = """
import sys
from pathlib import Path
from emberq.system.file_lock import lock_byte, lock_file, open_lock_file
lock = open_lock_file(Path(sys.argv[1]))
kind = sys.argv[2]
print(lock_byte(lock, int(kind)) if kind.isdigit() else lock_file(lock, shared=kind == "shared"), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another(path: Path, kind: str) -> Iterator[bool]:
    """Let another process try to lock the file for the block; yields whether it could."""
    command = [sys.executable, "-c", OTHER, str(path), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip() == "True"
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_one_process_at_a_time_has_an_exclusive_lock_and_any_number_a_shared_one(path: Path) -> None:
    for kind, others in (("exclusive", {"exclusive": False, "shared": False}), ("shared", {"shared": True})):
        with another(path, kind) as is_locked:
            assert is_locked
            for other, expected in others.items():
                with locked_file(path, shared=other == "shared", wait_seconds=0) as mine:
                    assert mine is expected, (kind, other)


def test_the_lock_of_a_killed_process_is_waited_for(path: Path) -> None:
    with another(path, "exclusive"):
        began_at = time.monotonic()
        with locked_file(path, wait_seconds=0.05) as is_locked:
            assert not is_locked
        assert time.monotonic() - began_at >= 0.05
    with locked_file(path) as is_locked:
        assert is_locked
        with locked_file(path, wait_seconds=0) as again:
            assert not again


def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        open_lock_file(path)


def test_bytes_are_locked_apart_from_each_other(path: Path) -> None:
    descriptor = open_lock_file(path)
    try:
        with another(path, "7") as is_locked:
            assert is_locked
            assert not lock_byte(descriptor, 7)
            assert lock_byte(descriptor, 8)
        assert lock_byte(descriptor, 7)
        unlock_byte(descriptor, 7)
        with another(path, "7") as is_locked:
            assert is_locked
        assert path.stat().st_size == 0
    finally:
        os.close(descriptor)


def test_a_lock_goes_with_the_last_descriptor(path: Path) -> None:
    first = open_lock_file(path)
    assert lock_file(first)
    second = os.dup(first)
    os.close(first)
    with locked_file(path, wait_seconds=0) as is_locked:
        assert not is_locked
    os.close(second)
    with locked_file(path, wait_seconds=0) as is_locked:
        assert is_locked
