"""The history: what clients asked, what they were answered and when, one JSON object a line."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

__all__ = ["History", "Operation", "read_history"]


@dataclass(slots=True)
class Operation:
    """One thing a client wanted.

    Attributes:
        number: Its place in the history.
        kind: `upload`, `twins`, `delete`, `cancel`, `retry`, `job`, `search` or `text`.
        file: The file's name.
        asked_at: Monotonic seconds before the first request was sent.
        asked: What else was asked.
        answered_at: Monotonic seconds after the answer that counts; nothing if there was none.
        status: The HTTP status of that answer.
        answer: What else was answered.
    """

    number: int
    kind: str
    file: str
    asked_at: float
    asked: dict[str, Any] = field(default_factory=dict)
    answered_at: float | None = None
    status: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def is_acknowledged(self) -> bool:
        """Whether the system said that it has done it."""
        return self.status is not None and 200 <= self.status < 300


class History:
    """Writes operations as they are asked and answered; safe to use from any number of threads."""

    def __init__(self, path: Path) -> None:
        """Begin a new history in a file."""
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def ask(self, kind: str, file: str, **asked: Any) -> int:
        """Write what is about to be asked and return its number."""
        with self._lock:
            self._count += 1
            number = self._count
            self._write({"ask": number, "at": time.monotonic(), "kind": kind, "file": file, "asked": asked})
        return number

    def answer(self, number: int, status: int, **answer: Any) -> None:
        """Write how an operation was answered."""
        with self._lock:
            self._write({"answers": number, "at": time.monotonic(), "status": status, "answer": answer})

    def note(self, what: str, **fields: Any) -> None:
        """Write down what was done to the system; checkers pass over it."""
        with self._lock:
            self._write({"note": what, "at": time.monotonic(), **fields})

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def read_history(path: Path) -> list[Operation]:
    """Return the operations of a history in the order in which they were asked."""
    operations: dict[int, Operation] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        if "ask" in record:
            operations[record["ask"]] = Operation(
                record["ask"], record["kind"], record["file"], record["at"], record["asked"]
            )
        elif "answers" in record:
            operation = operations[record["answers"]]
            operation.answered_at, operation.status = record["at"], record["status"]
            operation.answer = record["answer"]
    return list(operations.values())
