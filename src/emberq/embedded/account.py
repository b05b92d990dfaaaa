"""The unprivileged account that PostgreSQL runs under when emberq runs as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from emberq.errors import DatabaseUnavailable

#: System users to run as, the first that exists; emberq never creates one.
_CANDIDATES = ("emberq", "nobody")


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
    """Return the account under which the engine of a directory runs; None for this process's own.

    A directory that exists keeps its owner, so that a start as root between two as another user changes
    nothing.

    Raises:
        DatabaseUnavailable: If this process is root and none of the system users exists.
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


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
