"""What processes have open, by kind, as /proc tells it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["describe", "held_by_several", "open_in"]


def open_in(pid: int) -> dict[int, str]:
    """Return a process's descriptors beside the standard ones, and their targets, e.g. `socket:[4711]`."""
    found: dict[int, str] = {}
    # The process may close some meanwhile, or end.
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if int(entry.name) > 2 and target != "/dev/null":
                    found[int(entry.name)] = target
    return found


def describe(pid: int) -> set[str]:
    """Return the kinds of what a process has open.

    `metrics` is a file in which this very process counts, `lock of NAME` a lock file, `port N` a socket that
    listens there. Nothing names other sockets: that each has its own is what `held_by_several` shows.
    """
    return {_kind(pid, target) for target in open_in(pid).values()}


def held_by_several(pids: Iterable[int]) -> dict[str, list[int]]:
    """Return the sockets and locks that more than one of the processes has open."""
    holders: dict[str, set[int]] = {}
    for pid in pids:
        for target in open_in(pid).values():
            if target.startswith("socket:") or target.endswith(".lock"):
                holders.setdefault(target, set()).add(pid)
    return {target: sorted(held) for target, held in holders.items() if len(held) > 1}


def _kind(pid: int, target: str) -> str:
    if target.startswith("socket:"):
        port = _listening(pid).get(target[8:-1])
        return f"port {port}" if port else "socket"
    if target.startswith(("pipe:", "anon_inode:")):
        return target.removeprefix("anon_inode:").strip("[]").partition(":")[0]
    path = Path(target.removesuffix(" (deleted)"))
    if path.suffix == ".db":
        return "metrics" if path.stem.endswith(f"_{pid}") else "metrics of another process"
    if path.name == ".lock":
        return "lock of " + re.sub(r"-[^-]*$", "", path.parent.name)
    if path.suffix == ".lock":
        return f"lock of {path.stem}"
    return "file without a name" if target.endswith("(deleted)") else target


def _listening(pid: int) -> dict[str, int]:
    """Return the ports that are listened on in a process's network, by the sockets' inodes."""
    found: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found
