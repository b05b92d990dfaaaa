"""The data directory: one instance at a time, private, with a place for Unix sockets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Self

from emberq.errors import InvalidRequest
from emberq.system.capabilities import may_search_everywhere
from emberq.system.file_lock import lock_file, open_lock_file
from emberq.system.processes import process_identity

#: Bytes of the longest socket below the socket directory: the slash and PostgreSQL's fixed name.
LONGEST_SOCKET_NAME = len("/pg/.s.PGSQL.5432")

#: Bytes a socket's path may have; the kernels allow 107 (Linux) and 103 (macOS).
_SOCKET_PATH_LIMIT = 100

#: Name of the lock file; it also says which process has the lock.
_LOCK = "emberq.lock"
#: What it says besides the process id.
_OWNER = ("process", "since", "runs")
#: Seconds to wait for the lock of a dead process: its child that was about to exec still has a copy.
_GRACE_SECONDS = 2.0
#: Seconds between two tries meanwhile.
_POLL_SECONDS = 0.02

#: Characters that PostgreSQL or libpq read as syntax in a socket directory's name.
_SYNTAX = frozenset(",\"'\\")

#: Descriptors of this process's locks. A fork shares the lock, and a forked worker that outlived this process
#: would keep the directory locked, so children close their copies.
_locks: set[int] = set()


class DataDirectoryError(InvalidRequest):
    """The data directory cannot be used."""

    status: ClassVar[int] = 500
    default_hint = "Use another --data-dir (EMBERQ_DATA_DIR), or correct its owner and mode."


class DataDirectoryInUse(DataDirectoryError):
    """Another emberq uses the data directory."""

    status: ClassVar[int] = 409
    default_hint = "Stop the other one, or use another --data-dir (EMBERQ_DATA_DIR)."


class DataDirectory:
    """The directory with the embedded engines' data, locked by one process at a time.

    Use it as a context manager, or call `acquire` and `release`.

    Attributes:
        path: The directory, absolute.
        socket_directory: Where the engines' Unix sockets lie: `run` inside the directory, or a short private
            directory elsewhere where that path would be too long for a socket.
    """

    def __init__(self, path: str | os.PathLike[str], *, purpose: str = "emberq") -> None:
        """Name a directory; a user who finds it in use is shown its `purpose`."""
        self.path = Path(path).expanduser().absolute()
        self.socket_directory = _socket_directory(self.path)
        self._purpose = purpose
        self._lock: int | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()

    @property
    def is_locked(self) -> bool:
        """Whether this process has locked the directory through this object."""
        return self._lock is not None and self._owner == os.getpid()

    def acquire(self) -> None:
        """Make the directory if it is missing, and lock it.

        Raises:
            DataDirectoryInUse: If another process, or another object of this process, has locked it.
            DataDirectoryError: If it cannot be made or written to.
        """
        if self.is_locked:
            return
        try:
            self.path.mkdir(mode=private_mode(), parents=True, exist_ok=True)
            lock = open_lock_file(self.path / _LOCK)
        except OSError as exc:
            raise DataDirectoryError(
                f"{self.path} cannot be used as data directory: {exc.strerror}."
            ) from exc
        if not _take(lock):
            owner = _owner(lock)
            os.close(lock)
            raise DataDirectoryInUse(f"{self.path} is in use by {_describe(owner)}.")
        identity = process_identity(os.getpid())
        record = {
            "pid": os.getpid(),
            "process": identity,
            "since": datetime.now(UTC).isoformat(),
            "runs": self._purpose,
        }
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(record).encode(), 0)
        self._lock, self._owner = lock, os.getpid()
        _locks.add(lock)

    def release(self) -> None:
        """Unlock the directory; does nothing if it is not locked, and in a fork of the process that did."""
        if not self.is_locked or self._lock is None:
            return
        if self.socket_directory.parent != self.path:
            shutil.rmtree(self.socket_directory, ignore_errors=True)
        os.ftruncate(self._lock, 0)
        _locks.discard(self._lock)
        os.close(self._lock)
        self._lock = None

    def make(self, name: str) -> Path:
        """Return a private subdirectory, made if it is missing.

        Raises:
            DataDirectoryError: If it belongs to another user or is no directory.
        """
        return make_private(self.path / name)

    def make_socket_directory(self) -> Path:
        """Return `socket_directory`, made if it is missing.

        Raises:
            DataDirectoryError: If it belongs to another user or is no directory.
        """
        return make_private(self.socket_directory)


def private_mode() -> int:
    """Return the mode of new directories: 0700, or 0711 where root's engine account must pass through."""
    return 0o700 if os.geteuid() != 0 or may_search_everywhere() else 0o711


def make_private(path: Path) -> Path:
    """Make a directory that only this user may list, or check that an existing one is this user's.

    Raises:
        DataDirectoryError: If it cannot be made, belongs to another user, or is no directory.
    """
    try:
        path.mkdir(mode=private_mode(), exist_ok=True)
        found = path.lstat()
    except OSError as exc:
        raise DataDirectoryError(f"{path} cannot be made: {exc.strerror}.") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DataDirectoryError(f"{path} is not a directory of uid {os.geteuid()}, so it is not trusted.")
    path.chmod(private_mode())
    return path


def _socket_directory(data: Path) -> Path:
    inside = data / "run"
    if _fits(inside):
        return inside
    short = f"emberq-{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]}-{os.geteuid()}"
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - checked
        candidate = Path(base or "/nonexistent", short)
        if _fits(candidate) and os.access(candidate.parent, os.W_OK | os.X_OK):
            return candidate
    raise DataDirectoryError(f"No directory is short enough for the sockets of {data}.", hint="Set TMPDIR.")


def _fits(directory: Path) -> bool:
    text = str(directory)
    try:
        length = len(text.encode()) + LONGEST_SOCKET_NAME
    except UnicodeEncodeError:
        return False
    return length <= _SOCKET_PATH_LIMIT and text.isprintable() and not _SYNTAX & set(text)


def _take(lock: int) -> bool:
    deadline = time.monotonic() + _GRACE_SECONDS
    while not lock_file(lock):
        owner = _owner(lock)
        if (owner and process_identity(int(owner["pid"])) == owner["process"]) or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _owner(lock: int) -> dict[str, str]:
    try:
        record = json.loads(os.pread(lock, 4096, 0))
        return {"pid": str(int(record["pid"])), **{name: str(record[name]) for name in _OWNER}}
    except (ValueError, KeyError, TypeError):
        return {}


def _describe(owner: dict[str, str]) -> str:
    if not owner:
        return "another emberq"
    return "{runs} (pid {pid}, since {since})".format_map(owner)


def _close_inherited() -> None:
    for lock in _locks:
        with contextlib.suppress(OSError):
            os.close(lock)
    _locks.clear()


os.register_at_fork(after_in_child=_close_inherited)
