"""A job that a worker took and did not live to start is requeued within seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from rq import Queue

from emberq.worker.rq.orphans import OrphanRequeuer
from tests.harness.clock import FakeClock


@pytest.fixture
def connection(redis_url: str) -> Iterator[Redis]:
    made = Redis.from_url(redis_url)
    yield made
    made.close()


def take(queue: Queue) -> str:
    """Take a job as RQ's worker does, up to where it may die."""
    job_id = queue.connection.lmove(queue.key, queue.intermediate_queue_key, "LEFT", "RIGHT")
    return str(job_id, "utf-8")  # type: ignore[arg-type]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def orphans(connection: Redis, clock: FakeClock) -> OrphanRequeuer:
    return OrphanRequeuer(["orphans"], connection=connection, clock=clock)


def watch(orphans: OrphanRequeuer, clock: FakeClock, seconds: float) -> None:
    for _ in range(round(seconds / 0.1)):
        orphans.tick()
        clock.advance(0.1)


def test_what_a_dead_worker_took_goes_back_to_the_front(
    connection: Redis, orphans: OrphanRequeuer, clock: FakeClock
) -> None:
    queue = Queue("orphans", connection=connection)
    first, second = queue.enqueue("tests.jobs.warm.where"), queue.enqueue("tests.jobs.warm.where")
    assert take(queue) == first.id
    orphans.note_death()
    watch(orphans, clock, 2)
    assert queue.job_ids == [second.id]
    watch(orphans, clock, 1)
    assert queue.job_ids == [first.id, second.id]
    assert connection.llen(queue.intermediate_queue_key) == 0


def test_without_a_death_nothing_is_touched(
    connection: Redis, orphans: OrphanRequeuer, clock: FakeClock
) -> None:
    queue = Queue("orphans", connection=connection)
    queue.enqueue("tests.jobs.warm.where")
    take(queue)
    watch(orphans, clock, 60)
    assert queue.job_ids == []


def test_a_job_that_turns_up_half_a_minute_after_the_death_is_not_the_dead_workers(
    connection: Redis, orphans: OrphanRequeuer, clock: FakeClock
) -> None:
    queue = Queue("orphans", connection=connection)
    orphans.note_death()
    watch(orphans, clock, 31)
    queue.enqueue("tests.jobs.warm.where")
    take(queue)
    watch(orphans, clock, 60)
    assert queue.job_ids == []


def test_what_living_workers_are_about_to_start_is_left_to_them(
    connection: Redis, orphans: OrphanRequeuer, clock: FakeClock
) -> None:
    queue = Queue("orphans", connection=connection)
    orphans.note_death()
    for _ in range(4):
        queue.enqueue("tests.jobs.warm.where")
        job_id = take(queue)
        watch(orphans, clock, 0.8)
        connection.lrem(queue.intermediate_queue_key, 1, job_id)
    assert queue.job_ids == []
