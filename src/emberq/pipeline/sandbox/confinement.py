"""Confinement of the sandbox's child: no inherited descriptors or handlers, and limits on its resources."""

from __future__ import annotations

import faulthandler
import math
import os
import resource
import signal
import sys
from typing import Final

from emberq.system.memory import address_space_bytes
from emberq.system.processes import die_with_parent

#: Bytes that the child may write to any file; it writes only its crash report.
_MAX_FILE: Final = 1 << 20


def confine(pipe: int, *, parent: int, cpu_seconds: float, memory_bytes: int) -> None:
    """Take from this process everything that reading a file does not need.

    Signals have their default actions, descriptors other than 0, 1, 2 and `pipe` are closed, and limits on
    memory, processor time, file size and core dumps are set. The parent's timers do not survive a fork.

    Args:
        pipe: The descriptor that stays open.
        parent: Id of the parent; when it dies, the kernel kills this process (Linux only).
        cpu_seconds: Most processor time.
        memory_bytes: Most address space besides the inherited one (Linux only).
    """
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
    faulthandler.enable(file=2)
    seconds = math.ceil(cpu_seconds)
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_FSIZE, _MAX_FILE)
    _lower_limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    if sys.platform == "linux":
        _lower_limit(resource.RLIMIT_AS, address_space_bytes() + memory_bytes)


def _lower_limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, unless the inherited one is lower."""
    _, ceiling = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
