"""Many jobs at once: retry, cancel, find the stuck, purge; each within its tenant."""

from __future__ import annotations

import uuid

import pytest

from emberq.store.jobs.bulk_actions import (
    CancelledJobs,
    cancel_jobs,
    count_active_jobs,
    retry_jobs,
)
from emberq.store.jobs.retention import count_old_jobs, purge_jobs
from emberq.store.services import Services
from tests.integration.store.crowd import Crowd

DAY = 86400.0


@pytest.fixture
def crowd(services: Services) -> Crowd:
    return Crowd(services)


def fail(crowd: Crowd, jobs: list[uuid.UUID], code: str, *, quarantined: bool = False) -> None:
    crowd.put(
        "UPDATE jobs SET state = 'failed', ended_at = now(), attempt = 3, error_code = :code,"
        " quarantined = :quarantined WHERE id = ANY(:jobs)",
        code=code,
        quarantined=quarantined,
        jobs=jobs,
    )


def states(crowd: Crowd, jobs: list[uuid.UUID]) -> list[str]:
    found = {row.id: row.state for row in crowd.sql("SELECT id, state FROM jobs")}
    return [found.get(job, "gone") for job in jobs]


def test_failed_jobs_run_again_by_error_code(crowd: Crowd, services: Services) -> None:
    away, corrupt = crowd.add("a", 3), crowd.add("a", 2)
    strange = crowd.add("b")
    fail(crowd, away + strange, "embedding_unavailable")
    fail(crowd, corrupt, "corrupt_file")
    with services.database.system_transaction() as connection:
        assert retry_jobs(connection, "a", error_code="embedding_unavailable") == 3
    assert states(crowd, [*away, *corrupt, *strange]) == ["pending"] * 3 + ["failed"] * 3
    assert crowd.sql("SELECT DISTINCT attempt FROM jobs WHERE state = 'pending'") == [(0,)]


def test_quarantined_jobs_run_again_and_so_do_those_of_a_collection(crowd: Crowd, services: Services) -> None:
    poison, other = crowd.add("a", 2), crowd.add("a", 2)
    notes = crowd.add("a", 1, collection="notes")
    fail(crowd, poison, "quarantined", quarantined=True)
    fail(crowd, other + notes, "corrupt_file")
    cancelled = crowd.add("a", 1)
    crowd.put("UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE id = :id", id=cancelled[0])
    with services.database.system_transaction() as connection:
        assert retry_jobs(connection, "a", quarantined=True) == 2
        [[docs]] = crowd.sql("SELECT id FROM collections WHERE name = 'docs'")
        assert retry_jobs(connection, "a", collection_id=docs) == 2
    assert states(crowd, notes + cancelled) == ["failed", "cancelled"]


def test_retrying_a_providers_failures_sends_its_probe_at_once(crowd: Crowd, services: Services) -> None:
    jobs = crowd.add("a", 3)
    fail(crowd, jobs, "embedding_rejected")
    crowd.sql(
        "INSERT INTO breakers VALUES ('a', 5, 'embedding_rejected', now(), now() + interval '10 minutes')"
    )
    with services.database.system_transaction() as connection:
        retry_jobs(connection, "a", error_code="embedding_rejected")
    assert len(crowd.admit(3)) == 1


def test_a_collections_jobs_are_cancelled_together(crowd: Crowd, services: Services) -> None:
    pending, other = crowd.add("a", 4), crowd.add("a", 1, collection="notes")
    strange = crowd.add("b")
    running = crowd.admit(1)
    crowd.move(running, "processing")
    [[docs]] = crowd.sql("SELECT id FROM collections WHERE name = 'docs' AND tenant = 'a'")
    with services.database.system_transaction() as connection:
        assert count_active_jobs(connection, "a", collection_id=docs) == CancelledJobs(3, 1)
        done = cancel_jobs(connection, "a", collection_id=docs)
    assert (done.cancelled, done.stopping, len(done.tickets)) == (3, 1, 1)
    waiting = [job for job in pending if job not in running]
    assert states(crowd, waiting) == ["cancelled"] * 3
    assert states(crowd, other + strange) == ["pending", "pending"]
    [[asked]] = crowd.sql("SELECT cancel_requested_at IS NOT NULL FROM jobs WHERE id = :id", id=running[0])
    assert asked


def test_stuck_jobs_made_no_progress_or_were_not_claimed(crowd: Crowd) -> None:
    quiet, busy, forgotten, fresh, waiting = crowd.add("a", 5)
    crowd.move([quiet, busy], "processing")
    crowd.move([forgotten, fresh], "queued")
    crowd.sql(
        "UPDATE jobs SET progress_at = now() - interval '400 s', queued_at = now() - interval '400 s',"
        " created_at = created_at - interval '400 s' WHERE id = ANY(:ids)",
        ids=[quiet, forgotten, waiting],
    )
    crowd.sql(
        "UPDATE jobs SET progress_at = now(), queued_at = now() WHERE id = ANY(:ids)", ids=[busy, fresh]
    )
    assert {job["id"] for job in crowd.listed("a", stuck_seconds=300)} == {quiet, forgotten}
    assert crowd.listed("a", stuck_seconds=500) == []


def test_jobs_are_listed_by_why_they_wait_or_failed(crowd: Crowd) -> None:
    crowd.lease(1)
    held, ready, failed = crowd.add("a", 3)
    crowd.sql("UPDATE jobs SET not_before = now() + interval '1 hour' WHERE id = :id", id=held)
    fail(crowd, [failed], "corrupt_file")
    for reason, expected in (("backoff", held), ("behind", ready), ("corrupt_file", failed)):
        assert [job["id"] for job in crowd.listed("a", reason=reason)] == [expected]
    assert crowd.listed("a", reason="paused") == []


def test_a_purge_deletes_old_records_but_no_files_newest_job(crowd: Crowd, services: Services) -> None:
    (superseded,) = crowd.add("a")
    crowd.sql(
        "INSERT INTO jobs (id, tenant, collection_id, file_id, version, max_attempts, state, ended_at)"
        " SELECT gen_random_uuid(), tenant, collection_id, file_id, 2, 3, 'completed',"
        " now() - interval '9 days' FROM jobs"
    )
    crowd.sql("UPDATE files SET newest_version = 2")
    (deleted,) = crowd.add("a")
    crowd.sql(
        "UPDATE files SET deleted_at = now() WHERE id = (SELECT file_id FROM jobs WHERE id = :id)", id=deleted
    )
    answering = crowd.add("a")
    crowd.sql(
        "UPDATE files SET deleted_at = now() WHERE id = (SELECT file_id FROM jobs WHERE id = :id)",
        id=answering[0],
    )
    crowd.sql(
        "INSERT INTO idempotency_keys (tenant, key, request, file_id, job_id)"
        " SELECT 'a', 'k', 'r', file_id, id FROM jobs WHERE id = :id",
        id=answering[0],
    )
    crowd.move([superseded, deleted, *answering], "completed")
    crowd.sql("UPDATE jobs SET ended_at = now() - interval '9 days'")
    recent = crowd.add("a")
    crowd.move(recent, "completed")
    crowd.sql(
        "UPDATE files SET deleted_at = now()  WHERE id = (SELECT file_id FROM jobs WHERE id = :id)",
        id=recent[0],
    )
    with services.database.system_transaction() as connection:
        assert count_old_jobs(connection, "a", older_than_seconds=7 * DAY) == 2
        assert purge_jobs(connection, "b", older_than_seconds=7 * DAY) == 0
        assert purge_jobs(connection, "a", older_than_seconds=7 * DAY) == 2
        assert purge_jobs(connection, "a", older_than_seconds=7 * DAY) == 0
    assert states(crowd, [superseded, deleted]) == ["gone", "gone"]
    assert states(crowd, [*answering, *recent]) == ["completed", "completed"]
    assert crowd.sql("SELECT count(*) FROM jobs") == [(3,)]
