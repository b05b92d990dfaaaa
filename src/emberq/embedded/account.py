"""The unprivileged account PostgreSQL runs under when emberq runs as root."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from emberq.errors import DatabaseUnavailable

__all__ = ["Account", "may_bypass_search", "unprivileged_account"]

#: System users to run as, the first that exists; emberq never makes an account.
_CANDIDATES = ("emberq", "nobody")

#: CAP_DAC_READ_SEARCH and CAP_SETPCAP, the bits the launcher needs to open a private path (capabilities(7)).
_SEARCH_CAPABILITIES = 1 << 2 | 1 << 8


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the system.

    Attributes:
        name: Its name, or its number where it has none.
        uid: Its user id, never 0.
        gid: Its primary group.
    """

    name: str
    uid: int
    gid: int


def unprivileged_account(owned: Path) -> Account | None:
    """Return who runs the engine that owns a directory, None if that is whoever we are.

    Whoever owns the directory already goes on running it, so that a start with root's rights between two
    without them changes nothing.

    Args:
        owned: The directory; it need not exist.

    Raises:
        DatabaseUnavailable: If we are root and there is no account to fall back to.
    """
    if os.geteuid() != 0:
        return None
    if owned.exists() and owned.stat().st_uid != 0:
        status = owned.stat()
        return Account(_name_of(status.st_uid), status.st_uid, status.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise DatabaseUnavailable(
        f"PostgreSQL refuses to run as root and there is no user {' or '.join(_CANDIDATES)}.",
        hint="Run emberq as an ordinary user, or make a system user emberq.",
    )


def may_bypass_search() -> bool:
    """Return whether the launcher can give an account CAP_DAC_READ_SEARCH (Linux, full rights)."""
    if sys.platform != "linux":
        return False
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapPrm:"):
            return not _SEARCH_CAPABILITIES & ~int(line.split()[1], 16)
    return False


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
