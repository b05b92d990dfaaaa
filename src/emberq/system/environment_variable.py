"""Environment variables: setting one again and again without growth, and removing secrets."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Collection
from pathlib import Path

from emberq.system.libc import LIBC

#: Where `/proc/self/stat` has the bounds of the first environment, counted behind the program's name.
_ENV_START, _ENV_END = 47, 48


class RewrittenVariable:
    """An environment variable that gets value after value, for `os.environ` and for child processes.

    setenv(3), which is under `os.environ`, keeps each string that it was ever given. A value per job left
    80 bytes behind for each, and these lay so that the heap grew by 19 KB and a page per job
    (docs/decisions/0015-local-models-and-forks.md). putenv(3) takes the caller's own string, which is
    overwritten here.
    """

    def __init__(self, name: str) -> None:
        self._key = os.fsencode(name)
        self._entry = ctypes.create_string_buffer(1)

    def set(self, value: str) -> None:
        """Set the variable.

        Raises:
            ValueError: If the value has a null character.
        """
        raw = os.fsencode(value)
        if b"\0" in raw:
            raise ValueError("an environment variable cannot contain a null character")
        entry = b"%s=%s" % (self._key, raw)
        if len(entry) >= len(self._entry):
            self._entry = ctypes.create_string_buffer(2 * len(entry))
            # Never freed: libraries read the environment even after Python has freed its memory at the end.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._entry))
        self._entry.value = entry
        LIBC.putenv(self._entry)
        vars(os.environ)["_data"][self._key] = raw


def forget_variables(names: Collection[str]) -> None:
    """Remove variables from `os.environ` and, on Linux, from what `/proc/PID/environ` shows.

    Children do not inherit them any more.

    Args:
        names: The variables, in upper case; they are removed in any case.
    """
    for name in [name for name in os.environ if name.upper() in names]:
        del os.environ[name]
    with contextlib.suppress(OSError, ValueError, IndexError):
        _overwrite_first_environment(names)


def _overwrite_first_environment(names: Collection[str]) -> None:
    """Overwrite the strings that the kernel gave to this program; a changed variable has another place."""
    if sys.platform != "linux":
        return
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    at = start
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        name = entry.partition(b"=")[0].decode(errors="replace").upper()
        if name in names:
            ctypes.memset(at, 0, len(entry))
        at += len(entry) + 1
