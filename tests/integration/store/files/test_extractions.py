"""Extractions are found by their bytes, kept for a while after their last use, and then gone."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from emberq.dispatch.blob_gc import BlobGarbageCollector
from emberq.dispatch.conversion import read_conversion, submit_conversion
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.purge import purge_ended_jobs, purge_extractions
from emberq.errors import CorruptFile, JobNotFound
from emberq.store.files.collections import list_collections
from emberq.store.files.commit import commit_file
from emberq.store.files.extractions import PageRange, PageText, ended_jobs, purge_extraction_batch
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.breaker import record_provider_failure
from emberq.store.jobs.claim import Attempt, claim_job
from emberq.store.jobs.finish import fail_attempt
from emberq.store.schema.tables import Breaker, Collection, FileRow, FileVersion, Job
from emberq.store.services import Services
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.integration.store.overlap import waits_for_lock

DAY = 86400.0


def send(
    services: Services, content: bytes = b"One.", *, tenant: str = "a", name: str = "a.txt"
) -> uuid.UUID:
    with services.blobs.writer() as writer:
        writer.write(content)
        return submit_conversion(services, writer, tenant=tenant, name=name)


def claim(services: Services, job_id: uuid.UUID) -> Attempt:
    with services.database.system_transaction() as connection:
        admit_jobs(connection, limit=100)
        ticket = connection.execute(select(Job.ticket).where(Job.id == job_id)).scalar_one()
        attempt = claim_job(connection, job_id, ticket=str(ticket), worker="w", host_id=None)
    assert attempt is not None
    return attempt


def read(services: Services, job_id: uuid.UUID) -> None:
    """Do what a worker does with the job."""
    attempt = claim(services, job_id)
    with services.database.system_transaction() as connection:
        commit_file(
            connection,
            attempt,
            text="# One\n\nTwo.",
            media_type="text/plain",
            page_count=2,
            chunks=(),
            timings={"extracting": 0.1},
            pages=[PageRange(0, 5, 1, "One"), PageRange(7, 11, 2, "One")],
        )


def age(services: Services, seconds: float) -> None:
    with services.database.system_transaction() as connection:
        for table, column in (("jobs", "ended_at"), ("files", "used_at")):
            connection.execute(
                text(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :s)"), {"s": seconds}
            )


def count(services: Services, table: type[Job | FileRow | FileVersion | Collection]) -> int:
    with services.database.system_transaction() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_what_was_read_is_given_back_page_by_page(services: Services) -> None:
    job_id = send(services)
    assert claim(services, send(services, b"Other.")).kind == "extraction"
    read(services, job_id)
    end = read_conversion(services, "a", job_id)
    assert end.extraction is not None
    assert list(end.extraction.pages()) == [PageText("# One", 1, "One"), PageText("Two.", 2, "One")]
    assert end.extraction.page_count == 2
    with pytest.raises(JobNotFound):
        read_conversion(services, "b", job_id)


def test_twenty_at_once_make_one_collection_and_one_job(services: Services) -> None:
    barrier = threading.Barrier(20)

    def at_once(_number: int) -> uuid.UUID:
        barrier.wait()
        return send(services)

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(at_once, range(20)))) == 1
    assert (count(services, Collection), count(services, FileRow), count(services, Job)) == (1, 1, 1)
    with services.database.system_transaction() as connection:
        assert list_collections(connection, "a", limit=50) == []


def test_a_failed_extraction_is_repeated_and_tells_a_waiting_request_why(services: Services) -> None:
    job_id = send(services)
    attempt = claim(services, job_id)
    with services.database.system_transaction() as connection:
        fail_attempt(connection, job_id, CorruptFile(), fence=attempt.fence, retry_delay_seconds=0)
    again = send(services)
    assert again != job_id
    end = read_conversion(services, "a", job_id)
    assert (end.extraction, (end.error or {})["code"]) == (None, "corrupt_file")
    with services.database.system_transaction() as connection:
        assert ended_jobs(connection, [job_id, again, uuid.uuid4()]) >= {job_id}
        assert again not in ended_jobs(connection, [job_id, again])


def test_an_extraction_without_requests_is_deleted_with_its_bytes(services: Services) -> None:
    job_id = send(services)
    read(services, job_id)
    age(services, 2 * DAY)
    # The sweep of ended jobs leaves it alone.
    assert purge_ended_jobs(services, retention_seconds=DAY) == 0
    assert purge_extractions(services, ttl_seconds=3 * DAY) == 0
    assert purge_extractions(services, ttl_seconds=DAY) == 1
    assert (count(services, FileRow), count(services, FileVersion), count(services, Job)) == (0, 0, 0)
    with pytest.raises(JobNotFound):
        read_conversion(services, "a", job_id)
    # Longer than the grace period below.
    time.sleep(0.02)
    assert BlobGarbageCollector(services, grace_seconds=0.01).run() == 1


def test_a_repeated_request_keeps_an_extraction(services: Services) -> None:
    job_id = send(services)
    read(services, job_id)
    age(services, 2 * DAY)
    assert send(services) == job_id
    assert purge_extractions(services, ttl_seconds=DAY) == 0
    assert read_conversion(services, "a", job_id).extraction is not None


def test_what_is_still_read_or_has_just_been_stays_however_old_the_request(services: Services) -> None:
    job_id = send(services)
    age(services, 2 * DAY)
    assert purge_extractions(services, ttl_seconds=DAY) == 0
    read(services, job_id)
    assert purge_extractions(services, ttl_seconds=DAY) == 0
    assert read_conversion(services, "a", job_id).extraction is not None


def test_a_request_that_comes_while_it_is_swept_finds_it_or_has_it_read_anew(services: Services) -> None:
    job_id = send(services)
    read(services, job_id)
    age(services, 2 * DAY)
    with services.database.system_transaction() as connection, ThreadPoolExecutor(1) as pool:
        assert purge_extraction_batch(connection, older_than_seconds=DAY) == 1
        asked = pool.submit(send, services)
        eventually(lambda: waits_for_lock(services))
        assert not asked.done()
        connection.commit()
        again = asked.result(LIMIT_SECONDS)
    assert again != job_id
    read(services, again)
    assert read_conversion(services, "a", again).extraction is not None


def test_maintenance_purges_extractions_by_the_setting(services: Services) -> None:
    read(services, send(services))
    age(services, 2 * DAY)
    Maintenance(services).tick()
    assert count(services, FileRow) == 0


def test_a_commit_that_was_tried_twice_finds_the_bytes_it_published(services: Services) -> None:
    with services.blobs.writer() as writer:
        writer.write(b"Once.")
        first = submit_conversion(services, writer, tenant="a", name="a.txt")
        assert submit_conversion(services, writer, tenant="a", name="a.txt") == first
        with services.database.system_transaction() as connection:
            connection.execute(text("DELETE FROM files"))
        again = submit_conversion(services, writer, tenant="a", name="a.txt")
    attempt = claim(services, again)
    assert services.blobs.existing(attempt.blob).read_bytes() == b"Once."


def test_an_extraction_says_nothing_of_the_embedding_provider(services: Services) -> None:
    from emberq.errors import EmbeddingUnavailable

    job_id = send(services)
    with services.database.system_transaction() as connection:
        record_provider_failure(connection, "a", EmbeddingUnavailable())
    read(services, job_id)
    with services.database.system_transaction() as connection:
        assert connection.execute(select(func.count()).select_from(Breaker)).scalar_one() == 1
