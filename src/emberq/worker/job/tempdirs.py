"""Temporary directories: one per horse, emptied after every job.

The directories of all horses of a preloader lie in one root. The preloader deletes the directory of a killed
horse when it reaps the horse; the next preloader deletes the root of a killed one. Any other process that
runs a job makes a root of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from multiprocessing.process import current_process
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from emberq.telemetry.logs import get_logger
from emberq.worker.job.owned_directory import OwnedDirectory

log = get_logger(__name__)

#: Names of roots begin with this; roots of dead processes are found by it.
_ROOT_PREFIX = "emberq-jobs-"
#: multiprocessing deletes its own directory at -100; lower priorities run later.
_LAST_AT_EXIT = -200

_root: Path | None = None
#: The root, if it is this process's.
_own_root: OwnedDirectory | None = None
#: This process's id and directory; a forked child finds its parent's id here and makes its own.
_own: tuple[int, str] | None = None


def make_root() -> Path:
    """Make the root for this process and the children it will fork; delete roots of dead processes.

    Raises:
        OSError: If nothing can be written to the directory for temporary files.
    """
    global _own_root  # noqa: PLW0603 - one per process
    made = OwnedDirectory(_ROOT_PREFIX)
    use_root(made.path)
    _own_root = made
    return made.path


def temporary_root() -> Path | None:
    """Return the root that this process uses, None if its directory is in no root."""
    return _root


def use_root(root: Path | None) -> None:
    """Use a root that another process made, or none; deletes this process's own root."""
    global _root, _own, _own_root  # noqa: PLW0603 - one per process
    if _own_root is not None:
        if _own is not None:
            with contextlib.suppress(OSError):
                # Not if it has entries: multiprocessing keeps its own directory there.
                os.rmdir(_own[1])  # noqa: PTH106 - as everywhere here
        if _own is None or not Path(_own[1]).exists():
            _own_root.remove()
        _own_root = None
    _root, _own = root, None


def remove_root() -> None:
    """Delete this process's own root with all directories in it; call it when all children have ended."""
    global _own_root  # noqa: PLW0603 - one per process
    if _own_root is not None:
        _own_root.remove()
        _own_root = None
        use_root(None)


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
        make_root()
        if _own_root is not None:
            # Runs after multiprocessing has deleted its own directory in it, and in no forked child.
            Finalize(None, _own_root.remove, exitpriority=_LAST_AT_EXIT)
    own = (_root or Path()) / str(pid)
    own.mkdir(mode=0o700, exist_ok=True)
    return str(own)


def _is_of_multiprocessing(path: str) -> bool:
    """Tell whether multiprocessing keeps its sockets in this directory."""
    settings: dict[str, Any] = getattr(current_process(), "_config", {})
    return bool(settings.get("tempdir") == path)
