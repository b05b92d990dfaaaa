"""The witness: follows the logs of all programs, and looks into the database, while they are attacked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tests.chaos.campaign.system import System

__all__ = ["Event", "InHand", "Witness"]

#: Seconds between two looks at the logs.
_LOOK_SECONDS = 0.01
#: Records that matter here; stages are many.
_IGNORED = frozenset({"resource_loaded", "config_changed"})


@dataclass(frozen=True, slots=True)
class Event:
    """One log record.

    Attributes:
        at: Monotonic seconds at which it was read.
        program: Who wrote it: `api`, `host1`, ….
        name: Its event.
        fields: Everything else in it.
    """

    at: float
    program: str
    name: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InHand:
    """A job that a worker has in hand, or that waits for one.

    Attributes:
        job: Its id.
        fence: The token of its claim, 0 for a waiting one.
        slot: The process of the worker that has it, 0 for a waiting one.
    """

    job: str
    fence: int
    slot: int


class Witness(threading.Thread):
    """Reads what programs log as they log it."""

    def __init__(self, system: System) -> None:
        """Follow the programs of a system."""
        super().__init__(name="witness", daemon=True)
        self._offsets: dict[Path, int] = {program.log: 0 for program in system.programs}
        self._names = {program.log: program.name for program in system.programs}
        self._address = make_conninfo(
            system.engines.database_url.replace("+psycopg", ""),
            connect_timeout=2,
            options="-c emberq.system=on",
        )
        self._stop_asked = threading.Event()
        #: Every record so far, in the order of reading.
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop_asked.set()
        self.join()

    def run(self) -> None:
        """Follow the logs until stopped."""
        while not self._stop_asked.wait(_LOOK_SECONDS):
            self.read()

    def read(self) -> None:
        """Read what was written since the last time."""
        for path, offset in self._offsets.items():
            if not path.exists():
                continue
            with path.open("rb") as log:
                log.seek(offset)
                data = log.read()
            # A process may have died in the middle of its last line.
            end = data.rfind(b"\n") + 1
            self._offsets[path] = offset + end
            self.events.extend(self._events(data[:end], self._names[path]))

    def _events(self, data: bytes, program: str) -> list[Event]:
        now = time.monotonic()
        found = []
        for line in data.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("event") not in _IGNORED:
                found.append(Event(now, program, str(record.get("event")), record))
        return found

    def wait_for(
        self,
        name: str,
        matches: Callable[[Event], bool] = lambda _event: True,
        *,
        since: float,
        seconds: float,
    ) -> Event | None:
        """Return the first such record read since a moment, waiting for it; nothing if none comes."""
        deadline = time.monotonic() + seconds
        index = 0
        while True:
            events = self.events
            for event in events[index:]:
                if event.name == name and event.at >= since and matches(event):
                    return event
            index = len(events)
            if time.monotonic() > deadline:
                return None
            time.sleep(_LOOK_SECONDS)

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        """Open a connection to the database, past all wires."""
        return psycopg.connect(self._address, autocommit=autocommit)

    def in_hand(self, *, states: tuple[str, ...] = ("processing",)) -> list[InHand]:
        """Return the jobs in these states; none while the database is away."""
        statement = "SELECT id, coalesce(fence, 0), worker FROM jobs WHERE state = ANY(%s)"
        try:
            with self.connect() as connection:
                rows = connection.execute(statement, [list(states)]).fetchall()
        except psycopg.Error:
            return []
        return [
            InHand(str(job), fence, int(worker.rsplit("-", 1)[1]) if worker else 0)
            for job, fence, worker in rows
        ]

    def is_over(self, job: str) -> bool:
        """Tell whether a job has come to an end; as far as we know it has not while the database is away."""
        statement = "SELECT state NOT IN ('pending', 'queued', 'processing') FROM jobs WHERE id = %s"
        try:
            with self.connect() as connection:
                row = connection.execute(statement, [job]).fetchone()
        except psycopg.Error:
            return False
        return row is None or bool(row[0])

    def not_taken_up(self, jobs: list[InHand]) -> list[InHand]:
        """Return those jobs that wait, or that are in the same hands; all while the database is away."""
        fences = {job.job: job.fence for job in jobs}
        try:
            with self.connect() as connection:
                rows = connection.execute(
                    "SELECT id, state, coalesce(fence, 0) FROM jobs"
                    " WHERE id = ANY(%s::uuid[]) AND state IN ('pending', 'queued', 'processing')",
                    [list(fences)],
                ).fetchall()
        except psycopg.Error:
            return jobs
        waiting = {
            str(job) for job, state, fence in rows if state != "processing" or fence == fences[str(job)]
        }
        return [job for job in jobs if job.job in waiting]
