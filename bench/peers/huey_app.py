"""Huey, which takes a job off the queue before it runs: quick, and a killed worker loses the job."""

from __future__ import annotations

import os
import sys

import jobs
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_URL"], results=False)
noop = huey.task(name="noop")(jobs.noop)
mark = huey.task(name="mark")(jobs.mark)


def fill(count: int, first: str, last: str) -> None:
    """Queue a mark, so many no-ops and another mark."""
    mark(first)
    for _ in range(count):
        noop()
    mark(last)


if __name__ == "__main__":
    fill(int(sys.argv[1]), sys.argv[2], sys.argv[3])
