"""Limits of one job, set on the horse by the kernel and taken back when the job ends."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from emberq.worker.job.policy import HorsePolicy

__all__ = ["limited"]

#: Processes of the same user, beyond the job's own allowance, that may start meanwhile.
_SPARE_PROCESSES = 1024


@contextlib.contextmanager
def limited(policy: HorsePolicy) -> Iterator[None]:
    """Hold this process to a job's limits within the block.

    Memory beyond the limit is refused by the kernel (`MemoryError`, or the end of native code that does
    not expect it). Processor time beyond it ends the process (SIGXCPU): the signal also reaches code that
    never lets go of the interpreter. Only soft limits are set, so that they can be taken back.

    Args:
        policy: `job_memory_limit` (Linux only), `job_cpu_limit` and `job_max_processes` are applied; the
            last one only against the user's processes altogether, the worker counts the job's own.
    """
    wanted = {}
    if policy.job_memory_limit and sys.platform == "linux":
        wanted[resource.RLIMIT_AS] = _address_space_bytes() + policy.job_memory_limit
    if policy.job_cpu_limit:
        wanted[resource.RLIMIT_CPU] = math.ceil(time.process_time() + policy.job_cpu_limit)
    if policy.job_max_processes and os.geteuid() != 0 and sys.platform == "linux":
        # The kernel counts all processes of the user and exempts root; a bound for the worst case.
        wanted[resource.RLIMIT_NPROC] = _user_processes() + policy.job_max_processes + _SPARE_PROCESSES
    before = {kind: _set_soft(kind, limit) for kind, limit in wanted.items()}
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def _set_soft(kind: int, limit: int) -> tuple[int, int]:
    """Lower a soft limit and return both limits as they were; a lower one stays."""
    soft, hard = resource.getrlimit(kind)
    lower = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min(lower), hard))
    return soft, hard


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()


def _user_processes() -> int:
    """Count this user's processes and threads, as the kernel does."""
    mine, found = os.getuid(), 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == mine:
                found += len(list((entry / "task").iterdir()))
    return found
