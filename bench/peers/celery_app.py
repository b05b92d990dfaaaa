"""Celery with late acknowledgement, so that a job survives its worker as it does everywhere else here."""

from __future__ import annotations

import os
import sys

import jobs
from celery import Celery

app = Celery("celery_app", broker=os.environ["BENCH_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
noop = app.task(jobs.noop, name="noop")
mark = app.task(jobs.mark, name="mark")


def fill(count: int, first: str, last: str) -> None:
    """Queue a mark, so many no-ops and another mark."""
    mark.delay(first)
    for _ in range(count):
        noop.delay()
    mark.delay(last)


if __name__ == "__main__":
    fill(int(sys.argv[1]), sys.argv[2], sys.argv[3])
