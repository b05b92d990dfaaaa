"""Linux capabilities: giving up root's rights but for the right to reach paths (capabilities(7)).

Only the standard library is imported here: the engines' launcher uses it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

from emberq.system.libc import LIBC, check

# <linux/prctl.h>, <linux/securebits.h> and <linux/capability.h>.
_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8
_CAPABILITY_VERSION_3 = 0x20080522

_SEARCH = 1 << _CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def may_search_everywhere() -> bool:
    """Tell whether `become_user` can leave a user the right to reach every path: root with full rights."""
    if sys.platform != "linux":
        return False
    sets = (_Sets * 2)()
    check(LIBC.capget(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
    return not (_SEARCH | 1 << _CAP_SETPCAP) & ~int(sets[0].permitted)


def become_user(uid: int, gid: int, *, is_content: Callable[[], bool]) -> None:
    """Take on a user and lose every right but, where it is needed, that of reaching paths.

    CAP_DAC_READ_SEARCH opens directories that only root may enter (`/root`, a test's private directory), for
    reading only. PostgreSQL asks access(2), which ignores the capabilities of ordinary users unless
    SECBIT_NO_SETUID_FIXUP is set.

    Args:
        uid: The user, not root.
        gid: The only group.
        is_content: Called as the new user without any right; tells whether it needs none.
    """
    os.setgroups([])
    os.setgid(gid)
    if not may_search_everywhere():
        os.setuid(uid)
        return
    bits = check(LIBC.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0))
    check(LIBC.prctl(_PR_SET_SECUREBITS, bits | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setuid(uid)
    _set_capabilities(effective=0, kept=_SEARCH)
    if is_content():
        _set_capabilities(effective=0, kept=0)
        return
    _set_capabilities(effective=_SEARCH, kept=_SEARCH)
    check(LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0))


def _set_capabilities(*, effective: int, kept: int) -> None:
    sets = (_Sets * 2)(_Sets(effective, kept, kept), _Sets(0, 0, 0))
    check(LIBC.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
