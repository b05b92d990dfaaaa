"""An environment variable that is set again and again without the process growing."""

from __future__ import annotations

import ctypes
import os

from emberq.system.libc import LIBC


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
