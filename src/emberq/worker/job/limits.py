"""Limits of one job that the kernel enforces on the horse while the job runs."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import time
from collections.abc import Iterator

from emberq.system.memory import address_space_bytes
from emberq.system.processes import count_user_threads
from emberq.worker.job.policy import HorsePolicy

#: Other processes of the same user that may start while the job runs.
_SPARE_PROCESSES = 1024


@contextlib.contextmanager
def job_limits(policy: HorsePolicy) -> Iterator[None]:
    """Set a job's limits on this process within the block.

    The kernel refuses memory beyond the limit: Python raises `MemoryError`, native code may crash. It ends
    the process (SIGXCPU) when the processor time is used up; the signal also reaches code that never
    releases the interpreter's lock. Only soft limits are set, so that they can be lifted afterwards.

    Args:
        policy: `job_memory_limit` (Linux only), `job_cpu_limit` and `job_max_processes` are applied. The
            kernel compares the last one with all processes of the user; the worker counts the job's own.
    """
    wanted = {}
    if policy.job_memory_limit and sys.platform == "linux":
        wanted[resource.RLIMIT_AS] = address_space_bytes() + policy.job_memory_limit
    if policy.job_cpu_limit:
        wanted[resource.RLIMIT_CPU] = math.ceil(time.process_time() + policy.job_cpu_limit)
    if policy.job_max_processes and os.geteuid() != 0 and sys.platform == "linux":
        # Stops a fork bomb between two counts of the worker. The kernel exempts root.
        wanted[resource.RLIMIT_NPROC] = count_user_threads() + policy.job_max_processes + _SPARE_PROCESSES
    before = {kind: _set_soft(kind, limit) for kind, limit in wanted.items()}
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def _set_soft(kind: int, limit: int) -> tuple[int, int]:
    """Lower a soft limit, unless it is lower already, and return both limits as they were."""
    soft, hard = resource.getrlimit(kind)
    lower = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min(lower), hard))
    return soft, hard
