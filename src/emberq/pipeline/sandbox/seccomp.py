"""A seccomp filter for the reader's child: the kernel refuses every system call that is not on a list.

The calls on the list work on descriptors that are open already, on memory, and on the process itself. None
opens, connects, executes, forks, or reaches another process. Every other call fails with EPERM, which
libraries take for "not allowed here". A call of another architecture ends the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass
from typing import Final

from emberq.system.libc import LIBC, check

# <linux/prctl.h>, <linux/seccomp.h>, <linux/audit.h> and <linux/bpf_common.h>.
_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_KILL_PROCESS: Final = 0x80000000
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
#: Where a filter finds the call's number, the architecture, and the lower half of the first argument.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_INSTRUCTION: Final = struct.Struct("HBBI")
#: Stands in the filter for the id of the process; no process has one so high.
_PID: Final = b"\xfe\xca\xef\xbe"


@dataclass(frozen=True, slots=True)
class _Calls:
    """The allowed calls of an architecture, by their numbers.

    Attributes:
        architecture: Its number in <linux/audit.h>.
        free: Calls with any arguments.
        own: Calls whose first argument must be the process itself: signals.
        current: Calls whose first argument must be 0, which means the process itself: limits.
    """

    architecture: int
    free: tuple[int, ...]
    own: tuple[int, ...]
    current: tuple[int, ...]


#: In this order: read, write, close, fstat, lseek, mmap, mprotect, munmap, brk, rt_sigaction, rt_sigprocmask,
#: rt_sigreturn, pread64, readv, writev, sched_yield, mremap, madvise, nanosleep, getpid, exit, gettimeofday,
#: getrusage, getuid, getgid, geteuid, getegid, sigaltstack, gettid, futex, sched_getaffinity,
#: restart_syscall, clock_gettime, clock_getres, clock_nanosleep, exit_group, getrandom,
#: membarrier; then those that only one architecture has. `own` has tgkill and tkill, `current` prlimit64.
#: Not newfstatat, by which some C libraries ask for a descriptor's size: it also tells whether a path exists,
#: which Landlock does not refuse. Python reads a file without knowing its size.
_CALLS: Final = {
    "x86_64": _Calls(
        0xC000003E,
        (
            *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 24, 25, 28, 35, 39, 60, 96, 98, 102, 104),
            *(107, 108, 131, 186, 202, 204, 219, 228, 229, 230, 231, 318, 324),
            201,  # time
        ),
        (234, 200),
        (302,),
    ),
    "aarch64": _Calls(
        0xC00000B7,
        (
            *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 67, 65, 66, 124, 216, 233, 101, 172, 93),
            *(169, 165, 174, 176, 175, 177, 132, 178, 98, 123, 128, 113, 114, 115, 94, 278, 283),
        ),
        (131, 130),
        (261,),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def has_seccomp() -> bool:
    """Tell whether the kernel filters system calls, and this module knows the machine's."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    # A kernel that has filters looks for the program, here at no address.
    LIBC.prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def allow_only_reading() -> None:
    """Refuse this process all system calls but those of the list; `no_new_privs` must be set.

    Raises:
        OSError: If the kernel does not do it.
    """
    code = _FILTER.replace(_PID, struct.pack("I", os.getpid()))
    program = _Program(len(code) // _INSTRUCTION.size, code)
    check(LIBC.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0))


def _make_filter(calls: _Calls) -> bytes:
    """Return the filter's program, for the process `_PID`: each test ends it or falls through to the next."""
    pid = int.from_bytes(_PID, sys.byteorder)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, calls.architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in calls.free:
        code += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for numbers, argument in ((calls.own, pid), (calls.current, 0)):
        for number in numbers:
            code += [
                (_JUMP_IF_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _FIRST_ARGUMENT),
                (_JUMP_IF_EQUAL, 0, 1, argument),
                (_RETURN, 0, 0, _ALLOW),
                (_RETURN, 0, 0, _REFUSE),
            ]
    code.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


#: Made once, for all children.
_FILTER: Final = _make_filter(_CALLS[platform.machine()]) if platform.machine() in _CALLS else b""
