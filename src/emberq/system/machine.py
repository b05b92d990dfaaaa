"""Which processes see each other: those under one kernel, in one namespace of process ids, of one user."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

__all__ = ["machine_identity"]


@cache
def machine_identity() -> str:
    """Return what this process shares with all whose end it can see; empty where it cannot be told.

    The boot's id, the namespace of process ids, and the user: containers of one machine have different
    namespaces, whose numbers are given out again only when no process is left in them, and `/proc` may hide
    other users' processes.
    """
    if sys.platform != "linux":
        return ""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot_id}/{Path('/proc/self/ns/pid').stat().st_ino}/{os.getuid()}"
    except OSError:
        return ""
