"""Where jobs put temporary files: one directory per process, emptied after every job.

Under a preloader all of them lie in one root, so that what a killed horse left is deleted when its end
is noticed, and what a killed preloader left, when the next one starts.
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

__all__ = [
    "discard_directory",
    "empty_directory",
    "job_directory",
    "make_root",
    "remove_root",
    "temporary_root",
    "use_root",
]

log = get_logger(__name__)

#: Names of roots begin with this; it is how roots of dead preloaders are found.
_ROOT_PREFIX = "emberq-jobs-"
#: Where multiprocessing's own clean-up comes at -100, and lower ones after it.
_LAST_AT_EXIT = -200
#: Locked by the preloader for as long as it lives.
_LOCK = ".lock"

_root: Path | None = None
_lock: int | None = None
#: The directory of this process, with its id: a forked child has one of its own.
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
    # It gets the name by which others find it only once it is locked.
    new = Path(tempfile.mkdtemp(prefix=f".{_ROOT_PREFIX}", dir=base))
    _lock = open_lock_file(new / _LOCK)
    lock_file(_lock)
    root = new.rename(base / new.name.removeprefix("."))
    use_root(root)
    return root


def temporary_root() -> Path | None:
    """Return the root that this process uses, nothing if each process makes a directory of its own."""
    return _root


def use_root(root: Path | None) -> None:
    """Put this process's directory under a root that another process made."""
    global _root, _own
    _root, _own = root, None


def remove_root() -> None:
    """Delete the root and all in it, once no child uses it any more."""
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
    """Return this process's directory, made when it is first asked for.

    Returns:
        Its path; nothing if it cannot be made, and then jobs use the common one.
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
    """Delete everything in a process's directory; made anew if it is gone itself.

    What multiprocessing made for the life of the process stays as long.

    Returns:
        The names found, and how many of them could not be deleted.
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
        # After multiprocessing has deleted its own directory in there, and in no forked child.
        Finalize(None, shutil.rmtree, args=(path, True), exitpriority=_LAST_AT_EXIT)
        return path
    own = _root / str(pid)
    own.mkdir(mode=0o700, exist_ok=True)
    return str(own)


def _delete_if_abandoned(root: Path) -> None:
    """Delete a root whose preloader, and with it the lock, is gone."""
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
    """Tell whether this is the directory that multiprocessing keeps its sockets in."""
    settings: dict[str, Any] = getattr(current_process(), "_config", {})
    return bool(settings.get("tempdir") == path)
