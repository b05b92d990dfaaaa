"""What the system's process table says, for tests that kill and look whether something is left."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Entry", "alive", "family_of", "parent_of", "read_table", "running_in", "title_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One process: its state, its parent, and when it started, in clock ticks since the boot."""

    state: str
    parent: int
    started: int


def read_table() -> dict[int, Entry]:
    """Return all processes by their ids."""
    table: dict[int, Entry] = {}
    for entry in Path("/proc").iterdir():
        fields = _fields(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            table[int(entry.name)] = Entry(fields[0], int(fields[1]), int(fields[19]))
    return table


def family_of(pid: int) -> list[int]:
    """Return a process's descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        fields = _fields(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, pending = [], [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def parent_of(pid: int) -> int:
    """Return a process's parent, 0 if there is no such process."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def title_of(pid: int) -> str:
    """Return a process's title or command line, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def running_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is this one or lies in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process may end, or belong to another user.
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(directory):
                    found.append(int(entry.name))
    return alive(found)


def alive(pids: list[int]) -> list[int]:
    """Return those of the processes that run, zombies not counted."""
    return [pid for pid in pids if (fields := _fields(pid)) and fields[0] != "Z"]


def _fields(pid: int) -> list[str] | None:
    """Return what the table says behind a process's name: its state, its parent and more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
