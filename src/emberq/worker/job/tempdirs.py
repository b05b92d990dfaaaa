"""Temporary directories: one per horse, emptied after every job.

The directories of all horses of a preloader lie in one root. The preloader deletes the directory of a killed
horse when it reaps the horse; the next preloader deletes the root of a killed one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from multiprocessing.process import current_process
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from emberq.system.file_lock import lock_file, open_lock_file
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Names of roots begin with this; roots of dead preloaders are found by it.
_ROOT_PREFIX = "emberq-jobs-"
#: multiprocessing deletes its own directory at -100; lower priorities run later.
_LAST_AT_EXIT = -200
#: The file in a root that its preloader keeps locked until it ends.
_LOCK = ".lock"

_root: Path | None = None
_lock: int | None = None
#: This process's id and directory; a forked child finds its parent's id here and makes its own.
_own: tuple[int, str] | None = None


def make_root() -> Path:
    """Make the root for this process and the children it will fork; delete roots of dead preloaders.

    Raises:
        OSError: If nothing can be written to the directory for temporary files.
    """
    global _lock  # noqa: PLW0603 - one per process
    base = Path(tempfile.gettempdir())
    for other in base.glob(f"{_ROOT_PREFIX}*"):
        _delete_if_abandoned(other)
    # Renamed only when it is locked, so that other preloaders never see it unlocked.
    new = Path(tempfile.mkdtemp(prefix=f".{_ROOT_PREFIX}", dir=base))
    _lock = open_lock_file(new / _LOCK)
    lock_file(_lock)
    root = new.rename(base / new.name.removeprefix("."))
    use_root(root)
    return root


def temporary_root() -> Path | None:
    """Return the root that this process uses, None if its directory is in no root."""
    return _root


def _close_lock_of_parent() -> None:
    """Close a child's copy of the lock, which would outlive the preloader with the child."""
    global _lock  # noqa: PLW0603 - one per process
    if _lock is not None:
        os.close(_lock)
        _lock = None


os.register_at_fork(after_in_child=_close_lock_of_parent)


def use_root(root: Path | None) -> None:
    """Use a root that another process made, or none; deletes this process's directory in no root."""
    global _root, _own
    if _own is not None and _own[0] == os.getpid() and _root is None:
        with contextlib.suppress(OSError):
            # Not if it has entries: multiprocessing keeps its own directory there.
            os.rmdir(_own[1])  # noqa: PTH106 - as everywhere here
    _root, _own = root, None


def remove_root() -> None:
    """Delete the root with all directories in it; call it when all children have ended."""
    global _lock  # noqa: PLW0603 - one per process
    if _root is not None:
        shutil.rmtree(_root, ignore_errors=True)
        use_root(None)
    if _lock is not None:
        os.close(_lock)
        _lock = None


def discard_directory(pid: int) -> None:
    """Delete the directory of a child that has ended."""
    if _root is not None:
        shutil.rmtree(_root / str(pid), ignore_errors=True)


def job_directory() -> str | None:
    """Return this process's directory; the first call makes it.

    Returns:
        Its path; None if it cannot be made, and jobs then use the system's directory for temporary files.
    """
    global _own  # noqa: PLW0603 - one per process
    pid = os.getpid()
    if _own is None or _own[0] != pid:
        try:
            _own = (pid, _make(pid))
        except OSError as exc:
            log.warning("temporary_directory_failed", error=str(exc))
            return None
    return _own[1]


def empty_directory(path: str) -> tuple[list[str], int]:
    """Delete everything in a process's directory, or make the directory again if a job deleted it.

    The directory that multiprocessing keeps for the life of the process stays.

    Returns:
        The names of the entries found, and how many of them could not be deleted.
    """
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not _is_of_multiprocessing(entry.path)]
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            os.mkdir(path, 0o700)  # noqa: PTH102 - as everywhere here
        return [], 0
    if not found:
        return [], 0
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108 - the same
    return sorted(entry.name for entry in found), sum(os.path.lexists(entry.path) for entry in found)


def _make(pid: int) -> str:
    if _root is None:
        path = tempfile.mkdtemp(prefix="emberq-job-")
        # Runs after multiprocessing has deleted its own directory in it, and in no forked child.
        Finalize(None, shutil.rmtree, args=(path, True), exitpriority=_LAST_AT_EXIT)
        return path
    own = _root / str(pid)
    own.mkdir(mode=0o700, exist_ok=True)
    return str(own)


def _delete_if_abandoned(root: Path) -> None:
    """Delete a root whose preloader has ended: its lock is free."""
    with contextlib.suppress(OSError):
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            return
        lock = os.open(root / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if lock_file(lock):
                shutil.rmtree(root, ignore_errors=True)
        finally:
            os.close(lock)


def _is_of_multiprocessing(path: str) -> bool:
    """Tell whether multiprocessing keeps its sockets in this directory."""
    settings: dict[str, Any] = getattr(current_process(), "_config", {})
    return bool(settings.get("tempdir") == path)
