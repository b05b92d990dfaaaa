"""Dramatiq as its documentation sets it up: messages are acknowledged after the work."""

from __future__ import annotations

import os

import dramatiq
import jobs
from dramatiq.brokers.redis import RedisBroker
from filling import fill

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_URL"]))
noop = dramatiq.actor(jobs.noop)
mark = dramatiq.actor(jobs.mark)

if __name__ == "__main__":
    fill(mark.send, noop.send)
