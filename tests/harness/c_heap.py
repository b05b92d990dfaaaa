"""What glibc has handed out of its heap."""

from __future__ import annotations

import ctypes

__all__ = ["IS_TOLD", "bytes_in_use"]

_library = ctypes.CDLL(None)
#: Whether the C library tells; only glibc does, from 2.33.
IS_TOLD = hasattr(_library, "mallinfo2")


class _Mallinfo2(ctypes.Structure):
    """As in mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


if IS_TOLD:
    _library.mallinfo2.restype = _Mallinfo2


def bytes_in_use() -> int:
    """Return the bytes of this process's blocks; big ones, which are mapped on their own, do not count."""
    return int(_library.mallinfo2().uordblks)
