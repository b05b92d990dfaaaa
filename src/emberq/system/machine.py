"""What identifies the running system, and which processes can see each other."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """Return what tells this boot of the system from every other (Linux only).

    Raises:
        OSError: If the system does not tell.
    """
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@cache
def machine_identity() -> str:
    """Return what this process shares with all processes whose end it can see; empty where that is not told.

    The boot's id, the namespace of process ids, and the user: containers of one machine have different
    namespaces, whose numbers are given out again only when no process is left in them, and `/proc` may hide
    other users' processes.
    """
    if sys.platform != "linux":
        return ""
    try:
        return f"{boot_id()}/{Path('/proc/self/ns/pid').stat().st_ino}/{os.getuid()}"
    except OSError:
        return ""
