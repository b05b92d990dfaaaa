"""Enqueue jobs, one of which crashes its process, and print what came of them."""

from __future__ import annotations

import os
import time

from redis import Redis
from rq import Queue
from rq.job import Job

QUESTIONS = {
    "How do I get my money back?": ["Refunds take three days.", "We open at nine.", "Parking is free."],
    "When can I come?": ["Refunds take three days.", "We open at nine.", "Parking is free."],
    "Where do I leave the car?": ["Refunds take three days.", "We open at nine.", "Parking is free."],
}


def main() -> None:
    queue = Queue(
        "my_queue", connection=Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    )
    jobs = [queue.enqueue("jobs.most_similar", question, answers) for question, answers in QUESTIONS.items()]
    crashing = queue.enqueue("jobs.crash")
    jobs += [queue.enqueue("jobs.most_similar", question, answers) for question, answers in QUESTIONS.items()]
    for job in [*jobs, crashing]:
        wait(job)
    for job in jobs:
        found = job.return_value()
        print(
            f"{job.args[0]:28} → {found['answer']:26} {found['seconds'] * 1000:6.1f} ms in horse {found['horse']}"
        )
    print(f"{'a job that crashes':28} → {crashing.get_status().value}")
    horses = {job.return_value()["horse"] for job in jobs}
    print(f"{len(jobs)} jobs answered by {len(horses)} horses; the model was loaded once, before the fork.")


def wait(job: Job, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while job.get_status() not in ("finished", "failed"):
        if time.monotonic() > deadline:
            raise SystemExit("No answer. Is a worker running on my_queue?")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
