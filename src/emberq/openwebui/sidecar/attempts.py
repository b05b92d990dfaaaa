"""What was tried with which file of an Open WebUI, kept over restarts; held by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from emberq.embedded.datadir import private_mode
from emberq.errors import InvalidRequest
from emberq.system.file_lock import lock_file, open_lock_file
from emberq.system.files import replace_durably

__all__ = ["Attempts", "AttemptsFile", "hold", "place"]


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts at one file.

    Attributes:
        count: How often it was begun again.
        started_at: When the latest attempt began, in the server's time, seconds since 1970.
        ended_at: When its end was seen; 0 while it was not.
        error: What the latest attempt ended with.
        linking: The knowledge base it has to be in; empty if in none.
        is_given_up: Whether it was told that there will be no further attempt.
    """

    count: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    error: str = ""
    linking: str = ""
    is_given_up: bool = False

    @property
    def is_open(self) -> bool:
        """Whether an attempt was begun whose end nobody saw."""
        return self.count > 0 and not self.ended_at


class AttemptsFile:
    """A file of attempts, by the ids of Open WebUI's files; safe to share among threads.

    Invariant: what `put` returned from is on the disk.
    """

    def __init__(self, path: Path) -> None:
        """Read the file at `path`, if it is there.

        Raises:
            InvalidRequest: If it is no file of attempts.
        """
        self._path = path
        self._lock = Lock()
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            self._rows = {str(name): Attempts(**row) for name, row in rows.items()}
        except FileNotFoundError:
            self._rows = {}
        except (ValueError, TypeError, AttributeError) as exc:
            raise InvalidRequest(
                f"{path} is damaged.", hint="Delete it; every file's attempts then count from zero."
            ) from exc

    def get(self, file_id: str) -> Attempts:
        """Return the attempts at a file."""
        with self._lock:
            return self._rows.get(file_id, Attempts())

    def put(self, file_id: str, attempts: Attempts | None) -> None:
        """Keep the attempts at a file; nothing forgets them."""
        with self._lock:
            if attempts is None:
                if self._rows.pop(file_id, None) is None:
                    return
            else:
                self._rows[file_id] = attempts
            self._write()

    def keep_only(self, file_ids: set[str]) -> None:
        """Forget files that are not there any more."""
        with self._lock:
            gone = self._rows.keys() - file_ids
            if gone:
                self._rows = {name: row for name, row in self._rows.items() if name not in gone}
                self._write()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rows = {}
            self._write()

    def _write(self) -> None:
        replace_durably(self._path, json.dumps({name: asdict(row) for name, row in self._rows.items()}))


def place(data_dir: Path, *what: str) -> Path:
    """Return where a program keeps what it knows about a server, e.g. `place(data_dir, "watch", url)`."""
    name = hashlib.sha256("\0".join(what[1:]).encode()).hexdigest()[:16]
    return data_dir / "openwebui" / f"{what[0]}-{name}.json"


@contextlib.contextmanager
def hold(path: Path, who: str) -> Iterator[None]:
    """Keep others from doing the same to the same server from this data directory.

    Args:
        path: As `place` gives it; its directory is made.
        who: What does it, e.g. `watcher`.

    Raises:
        InvalidRequest: If another process does it already, or the directory cannot be written to.
    """
    try:
        path.parent.mkdir(mode=private_mode(), parents=True, exist_ok=True)
        lock = open_lock_file(path.with_suffix(".lock"))
    except OSError as exc:
        raise InvalidRequest(
            f"{path.parent} cannot be written to: {exc.strerror}.",
            hint="Set EMBERQ_DATA_DIR to one that can.",
        ) from exc
    try:
        if not lock_file(lock):
            raise InvalidRequest(
                f"Another {who} is at work on this Open WebUI.", hint="Wait for it to end, or stop it first."
            )
        yield
    finally:
        os.close(lock)
