"""What the system's process table says, for tests that kill and look whether something is left."""

from __future__ import annotations

from pathlib import Path

__all__ = ["alive", "family_of"]


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


def alive(pids: list[int]) -> list[int]:
    """Return those of the processes that run, zombies not counted."""
    return [pid for pid in pids if (fields := _fields(pid)) and fields[0] != "Z"]


def _fields(pid: int) -> list[str] | None:
    """Return what the table says behind a process's name: its state, its parent and more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
