"""Orphans: processes of ours whose parent has died and that have not ended with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.harness.eventually import scaled
from tests.harness.process_table import Entry, read_table, title_of

__all__ = ["OrphanWatch"]

#: Seconds for which a process may outlive its parent.
_LIMIT_SECONDS = scaled(2.0)
#: Seconds between two looks.
_LOOK_SECONDS = 0.25


@dataclass(slots=True)
class _Known:
    """A process that was once seen below one of ours, and since when its parent has been another one."""

    parent: int
    title: str
    orphaned_at: float | None = None
    is_reported: bool = False


class OrphanWatch(threading.Thread):
    """Looks at the process table again and again, and remembers everything below the roots.

    Attributes:
        found: Titles of the processes that outlived their parents for too long.
        longest_seconds: For how long one outlived its parent at most.
    """

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        """Watch what is below these processes, which may be others at each look."""
        super().__init__(name="orphans", daemon=True)
        self.found: list[str] = []
        self.longest_seconds = 0.0
        self._roots = roots
        self._known: dict[tuple[int, int], _Known] = {}
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._stop_event.wait(_LOOK_SECONDS):
            self._look()

    def known(self) -> list[int]:
        """Return the processes that it has seen and that live."""
        return [pid for pid, _ in self._known]

    def stop(self) -> None:
        """Stop looking."""
        self._stop_event.set()
        self.join()

    def _look(self) -> None:
        table, now = read_table(), time.monotonic()
        self._known = {key: one for key, one in self._known.items() if _is_alive(table.get(key[0]), key[1])}
        for (pid, _), one in self._known.items():
            if table[pid].parent == one.parent:
                continue
            if one.orphaned_at is None:
                one.orphaned_at = now
            seconds = now - one.orphaned_at
            self.longest_seconds = max(self.longest_seconds, seconds)
            if seconds > _LIMIT_SECONDS and not one.is_reported:
                one.is_reported = True
                self.found.append(f"{pid} {one.title}")
        children: dict[int, list[int]] = {}
        for pid, entry in table.items():
            children.setdefault(entry.parent, []).append(pid)
        pending = list(self._roots())
        while pending:
            below = children.get(pending.pop(), [])
            pending += below
            for pid in below:
                if (pid, table[pid].started) not in self._known:
                    self._known[pid, table[pid].started] = _Known(table[pid].parent, title_of(pid)[:60])


def _is_alive(entry: Entry | None, started: int) -> bool:
    return entry is not None and entry.started == started and entry.state not in "ZX"
