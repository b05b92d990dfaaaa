"""Attempts at the files of one Open WebUI, in a JSON file that survives restarts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from emberq.errors import InvalidRequest
from emberq.system.files import replace_durably


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts to process one file again.

    Attributes:
        count: Number of attempts so far.
        started_at: Start of the latest attempt, in the server's time, seconds since 1970.
        ended_at: End of the latest attempt; 0 if its end was not seen.
        error: Error of the latest attempt; empty if it had none.
        knowledge_id: Knowledge base that the file must be linked to; empty if none.
        is_given_up: Whether it was logged that no attempt will follow.
    """

    count: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    error: str = ""
    knowledge_id: str = ""
    is_given_up: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the latest attempt has no known end."""
        return self.count > 0 and not self.ended_at


class AttemptsFile:
    """The attempts by file id, kept in one JSON file; thread-safe.

    Invariant: when `put` has returned, its change is on the disk.
    """

    def __init__(self, path: Path) -> None:
        """Read the file at `path`, if it exists.

        Raises:
            InvalidRequest: If the file is damaged.
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

    def put(self, file_id: str, attempts: Attempts) -> None:
        """Store the attempts at a file."""
        with self._lock:
            self._rows[file_id] = attempts
            self._write()

    def delete(self, file_id: str) -> None:
        """Delete the attempts at a file, if there are any."""
        with self._lock:
            if self._rows.pop(file_id, None) is not None:
                self._write()

    def keep_only(self, file_ids: set[str]) -> None:
        """Delete the attempts at all files but these."""
        with self._lock:
            gone = self._rows.keys() - file_ids
            if gone:
                self._rows = {name: row for name, row in self._rows.items() if name not in gone}
                self._write()

    def clear(self) -> None:
        """Delete the attempts at all files."""
        with self._lock:
            self._rows = {}
            self._write()

    def _write(self) -> None:
        replace_durably(self._path, json.dumps({name: asdict(row) for name, row in self._rows.items()}))


def state_path(data_dir: Path, program: str, *target: str) -> Path:
    """Return the path of a program's state for one server, e.g. `state_path(data_dir, "watch", url)`.

    Args:
        data_dir: emberq's data directory.
        program: Name of the program, e.g. `watch`.
        target: The server's address, and what else the state is for; different targets have different paths.
    """
    digest = hashlib.sha256("\0".join(target).encode()).hexdigest()[:16]
    return data_dir / "openwebui" / f"{program}-{digest}.json"
