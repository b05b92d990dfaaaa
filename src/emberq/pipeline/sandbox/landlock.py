"""Landlock: the kernel refuses this process files, TCP ports and signals to others (Linux, landlock(7))."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

from emberq.system.libc import LIBC, check

# <linux/landlock.h> and <asm-generic/unistd.h>; the numbers of the calls are the same on every architecture.
_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
#: How many rights to the file system each version of the interface has; all rights are refused.
_FILE_RIGHTS: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
#: The version from which binding and connecting TCP sockets can be refused, and both rights.
_NET_SINCE, _NET_RIGHTS = 4, 0b11
#: The version from which abstract sockets and signals can be kept inside, and both scopes.
_SCOPES_SINCE, _SCOPES = 6, 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(LIBC.syscall(_CREATE_RULESET, None, 0, _VERSION)))


def refuse_everything(version: int) -> None:
    """Refuse this process all that the version knows: it keeps the descriptors that it has open.

    `no_new_privs` must be set.

    Args:
        version: What `landlock_version` returned, at least 1.

    Raises:
        OSError: If the kernel does not do it.
    """
    rights = max(count for since, count in _FILE_RIGHTS if since <= version)
    ruleset = _Ruleset(
        files=(1 << rights) - 1,
        net=_NET_RIGHTS if version >= _NET_SINCE else 0,
        scopes=_SCOPES if version >= _SCOPES_SINCE else 0,
    )
    # An older kernel takes the longer structure if what it does not know is zero.
    made = check(LIBC.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0))
    try:
        check(LIBC.syscall(_RESTRICT_SELF, made, 0))
    finally:
        os.close(made)
