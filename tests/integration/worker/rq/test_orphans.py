"""A job that a worker took and did not live to begin goes back to its queue within seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis import Redis
from rq import Queue

from emberq.worker.rq.orphans import OrphanRequeuer


@pytest.fixture
def connection(redis_url: str) -> Iterator[Redis]:
    made = Redis.from_url(redis_url)
    yield made
    made.close()


def take(queue: Queue) -> str:
    """As RQ's worker takes a job, up to where it may die."""
    job_id = queue.connection.lmove(queue.key, queue.intermediate_queue_key, "LEFT", "RIGHT")
    return str(job_id, "utf-8")  # type: ignore[arg-type]


def watch(orphans: OrphanRequeuer, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        orphans.tick()
        time.sleep(0.05)


def test_what_a_dead_worker_took_goes_back_to_the_front(connection: Redis) -> None:
    queue = Queue("orphans", connection=connection)
    first, second = queue.enqueue("tests.jobs.warm.where"), queue.enqueue("tests.jobs.warm.where")
    assert take(queue) == first.id
    orphans = OrphanRequeuer(["orphans"], connection=connection)
    orphans.note_death()
    watch(orphans, 4)
    assert queue.job_ids == [first.id, second.id]
    assert connection.llen(queue.intermediate_queue_key) == 0


def test_without_a_death_nothing_is_touched(connection: Redis) -> None:
    queue = Queue("orphans", connection=connection)
    queue.enqueue("tests.jobs.warm.where")
    take(queue)
    watch(OrphanRequeuer(["orphans"], connection=connection), 3)
    assert queue.job_ids == []


def test_what_a_living_worker_is_about_to_begin_is_left_to_it(connection: Redis) -> None:
    queue = Queue("orphans", connection=connection)
    orphans = OrphanRequeuer(["orphans"], connection=connection)
    orphans.note_death()
    for _ in range(4):
        queue.enqueue("tests.jobs.warm.where")
        job_id = take(queue)
        watch(orphans, 0.8)
        connection.lrem(queue.intermediate_queue_key, 1, job_id)
    assert queue.job_ids == []
