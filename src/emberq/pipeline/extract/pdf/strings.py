"""The strings that pdfium returns in buffers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


def utf16(call: Callable[..., int], *arguments: Any) -> str:
    """Return the text of one of pdfium's functions that fill a buffer and return its size in bytes."""
    size = call(*arguments, None, 0)
    if size <= 2:  # noqa: PLR2004 - the zero at the end
        return ""
    buffer = (ctypes.c_ushort * ((size + 1) // 2))()
    call(*arguments, buffer, size)
    return bytes(buffer).decode("utf-16-le", "ignore").rstrip("\0")
