"""What is over is forgotten in time; what readers and repeated requests need stays."""

from __future__ import annotations

import uuid

import pytest
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import func, select, text

from emberq.dispatch.purge import purge_ended_jobs
from emberq.dispatch.tickets import enqueue, open_queue
from emberq.errors import CorruptFile, FileNotFound, JobNotFound
from emberq.store.files.files import get_file, get_text
from emberq.store.schema.tables import FileRow, FileVersion, IdempotencyKey, Job
from emberq.store.services import Services
from tests.integration.store.steps import TENANT, add, cancel, chunk_texts, claim, commit, delete, fail, job

WEEK = 7 * 86400.0


def age(services: Services, days: int) -> None:
    """Let everything that is there have happened so many days ago."""
    with services.database.system_transaction() as connection:
        for table, column in (
            ("jobs", "ended_at"),
            ("files", "deleted_at"),
            ("idempotency_keys", "created_at"),
        ):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '{days} days'"))


def count(services: Services, table: type[Job | FileRow | FileVersion | IdempotencyKey]) -> int:
    with services.database.system_transaction() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def replaced_twice(services: Services) -> uuid.UUID:
    """Make a file whose first version is visible, whose second was cancelled and whose third failed."""
    first = add(services, "one", external_id="x")
    commit(services, claim(services, first.job_id), ["one"])
    second = add(services, "two", external_id="x")
    third = add(services, "three", external_id="x")
    assert job(services, second.job_id)["state"] == "cancelled"
    fail(services, claim(services, third.job_id), CorruptFile())
    return first.file_id


def test_a_live_file_keeps_its_newest_job_and_its_visible_version(services: Services) -> None:
    file_id = replaced_twice(services)
    age(services, 8)
    assert purge_ended_jobs(services, retention_seconds=WEEK) == 2
    assert chunk_texts(services) == ["one"]
    with services.database.system_transaction() as connection:
        shown = get_file(connection, TENANT, file_id)
        assert (shown["state"], shown["newest_version"], shown["visible_version"]) == ("failed", 3, 1)
        assert get_text(connection, TENANT, file_id) == "one"
        versions = connection.execute(select(FileVersion.version).order_by(FileVersion.version)).scalars()
        assert list(versions) == [1, 3]


def test_what_ended_lately_or_has_not_ended_stays(services: Services) -> None:
    replaced_twice(services)
    waiting = add(services, "waiting")
    running = claim(services, add(services, "running").job_id)
    age(services, 6)
    assert purge_ended_jobs(services, retention_seconds=WEEK) == 0
    age(services, 8)
    purge_ended_jobs(services, retention_seconds=WEEK)
    for job_id in (waiting.job_id, running.job_id):
        assert job(services, job_id)["state"] in ("queued", "pending", "processing")


def test_a_retention_of_nothing_keeps_everything(services: Services) -> None:
    replaced_twice(services)
    age(services, 10_000)
    assert purge_ended_jobs(services, retention_seconds=0) == 0
    assert count(services, Job) == 3


def test_a_tombstone_goes_with_all_that_was_left_of_its_file_and_the_file_stays_away(
    services: Services,
) -> None:
    added = add(services, external_id="x")
    attempt = claim(services, added.job_id)
    delete(services, added.file_id)
    age(services, 8)
    assert purge_ended_jobs(services, retention_seconds=WEEK) == 0, "its job is still at work"
    fail(services, attempt, CorruptFile())
    age(services, 8)
    assert purge_ended_jobs(services, retention_seconds=WEEK) == 1
    assert count(services, FileRow) == count(services, FileVersion) == count(services, Job) == 0
    with pytest.raises(FileNotFound), services.database.system_transaction() as connection:
        get_file(connection, TENANT, added.file_id)


def test_a_job_stays_as_long_as_an_idempotency_key_answers_with_it(services: Services) -> None:
    first = add(services, "one", external_id="x")
    cancel(services, first.job_id)
    age(services, 8)
    add(services, "two", external_id="x", idempotency_key="k")
    answer = add(services, "two", external_id="x", idempotency_key="k")
    cancel(services, answer.job_id)
    add(services, "three", external_id="x")
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET ended_at = ended_at - interval '8 days'"))
    purge_ended_jobs(services, retention_seconds=WEEK)
    assert job(services, answer.job_id)["state"] == "cancelled"
    with pytest.raises(JobNotFound):
        job(services, first.job_id)
    age(services, 8)
    purge_ended_jobs(services, retention_seconds=WEEK)
    assert count(services, IdempotencyKey) == 0
    with pytest.raises(JobNotFound):
        job(services, answer.job_id)


def test_many_batches_go_in_one_turn(services: Services) -> None:
    for number in range(6):
        add(services, f"version {number}", external_id="x")
    age(services, 8)
    assert purge_ended_jobs(services, retention_seconds=WEEK, batch_rows=2) == 5
    assert count(services, Job) == 1


def test_tickets_leave_nothing_in_redis_that_stays(services: Services) -> None:
    redis = services.redis()
    unreadable: uuid.UUID = "no job id"  # type: ignore[assignment]
    enqueue(redis, [(uuid.uuid4(), "stale"), (unreadable, "failing")], job_timeout_seconds=10)
    worker = SimpleWorker([open_queue(redis)], connection=redis, serializer=JSONSerializer)
    worker.work(burst=True, logging_level="ERROR")
    keys = [key for key in redis.scan_iter() if b"stale" in key or b"failing" in key]
    lives = {key.decode(): redis.ttl(key) for key in keys}
    assert not any("stale" in key for key in lives), "a ticket that was taken is gone"
    assert any("failing" in key for key in lives), "one that failed can be looked at for a while"
    assert all(0 < seconds <= 300 for seconds in lives.values()), lives
