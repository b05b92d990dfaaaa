"""WarmWorker with other limits, for measurements that need many recycles, or none."""

from __future__ import annotations

from emberq import WarmWorker

__all__ = ["LastingWorker", "RecyclingWorker"]


class RecyclingWorker(WarmWorker):
    """Replaces its horse after every 20 jobs."""

    horse_max_jobs = 20


class LastingWorker(WarmWorker):
    """Keeps one horse for good, so that whatever grows can be seen growing."""

    horse_max_jobs = 10**9
    horse_max_memory_growth = 2**40
