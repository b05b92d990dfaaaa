"""Dramatiq as its documentation sets it up: messages are acknowledged after the work."""

from __future__ import annotations

import os
import sys

import dramatiq
import jobs
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_URL"]))
noop = dramatiq.actor(jobs.noop)
mark = dramatiq.actor(jobs.mark)


def fill(count: int, first: str, last: str) -> None:
    """Queue a mark, so many no-ops and another mark."""
    mark.send(first)
    for _ in range(count):
        noop.send()
    mark.send(last)


if __name__ == "__main__":
    fill(int(sys.argv[1]), sys.argv[2], sys.argv[3])
