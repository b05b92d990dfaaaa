"""Run a program as on a kernel without Landlock: `python without_landlock.py PROGRAM ARGUMENT…`.

A seccomp filter answers the first of Landlock's system calls with ENOSYS, for the program and all it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LANDLOCK_CREATE_RULESET = 444
#: Load the call's number; unless it is the one, go on; answer ENOSYS; allow.
FILTER = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, LANDLOCK_CREATE_RULESET),
        (0x06, 0, 0, 0x00050000 | errno.ENOSYS),
        (0x06, 0, 0, 0x7FFF0000),
    )
)


class Program(ctypes.Structure):
    """A filter, as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    """Install the filter and become the program."""
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = Program(len(FILTER) // 8, FILTER)
    if LIBC.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0):
        sys.exit("seccomp is not available")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
