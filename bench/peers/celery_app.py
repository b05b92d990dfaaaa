"""Celery with late acknowledgement, so that a job survives its worker as it does everywhere else here."""

from __future__ import annotations

import os

import jobs
from celery import Celery
from filling import fill

app = Celery("celery_app", broker=os.environ["BENCH_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
noop = app.task(jobs.noop, name="noop")
mark = app.task(jobs.mark, name="mark")

if __name__ == "__main__":
    fill(mark.delay, noop.delay)
