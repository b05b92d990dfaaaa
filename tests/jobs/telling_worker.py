"""A worker that writes down the deaths it is told of, and jobs that die when Redis no longer knows them."""

from __future__ import annotations

import os
import signal
from typing import Any

from rq import get_current_job
from rq.job import Job, JobStatus

from emberq import WarmWorker
from emberq.worker.horse.watchdog import HorseDeath

DEATHS = "deaths"


class TellingWorker(WarmWorker):
    """Adds `job reason` to a list for every death it is told of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_horse_death = self.tell

    def tell(self, job: Job, death: HorseDeath) -> None:
        self.connection.rpush(DEATHS, f"{job.id} {death.reason}")


def die(first: str) -> None:
    job = get_current_job()
    assert job is not None
    if first == "deleted":
        job.connection.delete(job.key)
    elif first == "finished elsewhere":
        job.set_status(JobStatus.FINISHED)
    elif first == "flushed":
        job.connection.flushall()
    os.kill(os.getpid(), signal.SIGKILL)
