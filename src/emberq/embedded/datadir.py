"""The data directory: one instance at a time, private, with a place for Unix sockets."""

from __future__ import annotations

import contextlib
import fcntl
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

from emberq.embedded.account import may_bypass_search
from emberq.embedded.launch import process_identity
from emberq.errors import InvalidRequest

__all__ = ["LONGEST_SOCKET_NAME", "DataDirectory", "DataDirectoryError", "DataDirectoryInUse"]

#: Bytes of the longest socket below the socket directory: the slash and PostgreSQL's fixed name.
LONGEST_SOCKET_NAME = len("/pg/.s.PGSQL.5432")

#: Bytes a socket's path may have: the kernels allow 107 (Linux) and 103 (macOS), and one spare is polite.
_SOCKET_PATH_LIMIT = 100

#: Seconds to wait for a lock whose holder is dead: a child of it that was about to exec still has its copy.
_GRACE_SECONDS = 2.0

#: Characters that PostgreSQL or libpq read as syntax in a socket directory's name.
_SYNTAX = frozenset(",\"'\\")

#: Descriptors of the locks held here. `flock` belongs to the open file, which a fork shares: a forked worker
#: that outlived us would hold the directory, so children close their copies.
_held: set[int] = set()


class DataDirectoryError(InvalidRequest):
    """The data directory cannot be used."""

    status: ClassVar[int] = 500
    default_hint = "Use another --data-dir (EMBERQ_DATA_DIR), or correct its owner and mode."


class DataDirectoryInUse(DataDirectoryError):
    """Another emberq uses the data directory."""

    status: ClassVar[int] = 409
    default_hint = "Stop the other one, or use another --data-dir (EMBERQ_DATA_DIR)."


class DataDirectory:
    """The directory that holds the embedded engines' data, held by one process at a time.

    Use it as a context manager, or call `acquire` and `release`.

    Attributes:
        path: The directory, absolute.
        socket_directory: Where the engines' Unix sockets lie: `run` inside the directory, or a short private
            directory elsewhere where that path would be too long for a socket.
    """

    def __init__(self, path: str | os.PathLike[str], *, purpose: str = "emberq") -> None:
        """Name a directory; nothing is touched before `acquire`.

        Args:
            path: The directory; it is made when it does not exist.
            purpose: What runs in it, shown to whoever finds it in use.
        """
        self.path = Path(path).expanduser().absolute()
        self.socket_directory = _socket_directory(self.path)
        self._purpose = purpose
        self._lock: int | None = None
        self._holder = 0

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()

    @property
    def is_held(self) -> bool:
        """Whether this process holds the directory through this object."""
        return self._lock is not None and self._holder == os.getpid()

    def acquire(self) -> None:
        """Make the directory if need be and take its lock.

        Raises:
            DataDirectoryInUse: If another process, or another object of this one, holds it.
            DataDirectoryError: If it cannot be made or written to.
        """
        if self.is_held:
            return
        lock_file = self.path / "emberq.lock"
        try:
            self.path.mkdir(mode=private_mode(), parents=True, exist_ok=True)
            lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise DataDirectoryError(
                f"{self.path} cannot be used as data directory: {exc.strerror}."
            ) from exc
        try:
            _take(lock)
        except BlockingIOError as exc:
            holder = _holder(lock)
            os.close(lock)
            raise DataDirectoryInUse(f"{self.path} is in use by {_describe(holder)}.") from exc
        record = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(), "runs": self._purpose}
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(record).encode(), 0)
        self._lock, self._holder = lock, os.getpid()
        _held.add(lock)

    def release(self) -> None:
        """Give the directory back; harmless if it is not held, or in a fork of the holder."""
        if not self.is_held or self._lock is None:
            return
        if self.socket_directory.parent != self.path:
            shutil.rmtree(self.socket_directory, ignore_errors=True)
        os.ftruncate(self._lock, 0)
        _held.discard(self._lock)
        os.close(self._lock)
        self._lock = None

    def make(self, name: str) -> Path:
        """Return a private subdirectory, made if need be.

        Raises:
            DataDirectoryError: If it belongs to another user or is no directory.
        """
        return make_private(self.path / name)

    def make_socket_directory(self) -> Path:
        """Return `socket_directory`, made if need be.

        Raises:
            DataDirectoryError: If it belongs to another user or is no directory.
        """
        return make_private(self.socket_directory)


def private_mode() -> int:
    """Return the mode of directories we make: 0700, or 0711 where root's engine account must pass through."""
    return 0o700 if os.geteuid() != 0 or may_bypass_search() else 0o711


def make_private(path: Path) -> Path:
    """Make a directory only we may list, or check that an existing one is ours.

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


def _take(lock: int) -> None:
    deadline = time.monotonic() + _GRACE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock)
            if (holder and process_identity(int(holder["pid"]))) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _holder(lock: int) -> dict[str, str]:
    try:
        record = json.loads(os.pread(lock, 4096, 0))
        return {"pid": str(int(record["pid"])), "since": str(record["since"]), "runs": str(record["runs"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _describe(holder: dict[str, str]) -> str:
    if not holder:
        return "another emberq"
    return "{runs} (pid {pid}, since {since})".format_map(holder)


def _close_inherited() -> None:
    for lock in _held:
        with contextlib.suppress(OSError):
            os.close(lock)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited)
