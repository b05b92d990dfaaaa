"""The C library, opened once. Only the standard library is imported here: the engines' launcher uses it."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

#: The C library. Opened at import, so before any fork: a child whose memory is limited may be refused what it
#: takes to open it.
LIBC: Final = ctypes.CDLL(None, use_errno=True)
LIBC.newlocale.restype = ctypes.c_void_p
LIBC.newlocale.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
LIBC.freelocale.argtypes = [ctypes.c_void_p]
if sys.platform == "linux":
    LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

#: LC_CTYPE_MASK of <locale.h>.
_CHARACTER_MASK = 1 << 1 if sys.platform == "darwin" else 1 << 0


def check(result: int) -> int:
    """Return a function's result.

    Raises:
        OSError: If it is negative, as errno says.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def has_locale(name: str) -> bool:
    """Tell whether the system has the character types of a locale."""
    made = LIBC.newlocale(_CHARACTER_MASK, name.encode(), None)
    if made:
        LIBC.freelocale(made)
    return bool(made)
