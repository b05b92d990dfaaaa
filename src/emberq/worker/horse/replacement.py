"""The decision that a horse is replaced between two jobs: it leaked, ran enough jobs, or has grown."""

from __future__ import annotations

from typing import Literal

from emberq.worker.horse.handle import Horse
from emberq.worker.job.policy import HorsePolicy


def reason_to_replace(
    horse: Horse, policy: HorsePolicy, *, for_memory: bool
) -> Literal["leak", "max_jobs", "memory"] | None:
    """Return why a horse is replaced now, as in `emberq_horse_restarts_total`, nothing if it stays.

    Args:
        horse: A horse between two jobs.
        policy: How many jobs it may run, and by how many bytes it may grow.
        for_memory: Whether growth is a reason now; a job that always grows must not cost a horse each time.
    """
    if horse.leaked:
        return "leak"
    if policy.horse_max_jobs and horse.jobs >= policy.horse_max_jobs:
        return "max_jobs"
    if for_memory and 0 < policy.horse_max_memory_growth < horse.grown_bytes():
        return "memory"
    return None
