"""Huey, which takes a job off the queue before it runs: quick, and a killed worker loses the job."""

from __future__ import annotations

import os

import jobs
from filling import fill
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_URL"], results=False)
noop = huey.task(name="noop")(jobs.noop)
mark = huey.task(name="mark")(jobs.mark)

if __name__ == "__main__":
    fill(mark, noop)
