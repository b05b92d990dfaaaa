"""Two transactions at once, on real threads: the outcome is that of one of the two orders."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, func, select, text

from emberq.errors import Cancelled, CollectionNotFound, EmberqError, FileNotFound, JobTimeout, WorkerLost
from emberq.store.admin.hosts import jobs_of_expired_hosts
from emberq.store.files.commit import ChunkValues, commit_file
from emberq.store.files.files import get_file
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import Attempt, LeaseLost, claim_job
from emberq.store.jobs.finish import fail_attempt
from emberq.store.jobs.queries import get_job, retry_job
from emberq.store.schema.tables import FileRow, Job
from emberq.store.services import Services
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.integration.store.overlap import (
    Step,
    cancelling,
    committing,
    deleting,
    dropping,
    failing,
    overlap,
    second_waits,
    uploading,
)
from tests.integration.store.steps import (
    TENANT,
    add,
    cancel,
    chunk_texts,
    claim,
    collection_of,
    commit,
    fail,
    job,
    values_of,
)


def count_rows(services: Services, table: type[Job | FileRow]) -> int:
    with services.database.system_transaction() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_two_uploads_of_the_same_file_at_once_make_one_job(services: Services) -> None:
    second = overlap(
        services, uploading(services, "one", external_id="x"), uploading(services, "one", external_id="x")
    )
    assert second.deduplicated
    assert (count_rows(services, FileRow), count_rows(services, Job)) == (1, 1)


def test_eight_uploads_of_the_same_file_at_once_make_one_job(services: Services) -> None:
    collection = collection_of(services)
    with ThreadPoolExecutor(8) as pool:
        added = list(
            pool.map(lambda _: add(services, "one", external_id="x", collection=collection), range(8))
        )
    assert len({one.job_id for one in added}) == 1
    assert sum(not one.deduplicated for one in added) == 1
    assert count_rows(services, Job) == 1


def test_two_requests_with_one_idempotency_key_at_once_make_one_file(services: Services) -> None:
    upload = uploading(services, "one", idempotency_key="k")
    assert overlap(services, upload, upload).deduplicated
    assert (count_rows(services, FileRow), count_rows(services, Job)) == (1, 1)


def test_of_two_versions_uploaded_at_once_the_second_is_the_newest(services: Services) -> None:
    began_first = threading.Event()
    may_go_on = threading.Event()
    collection = collection_of(services)

    def slow() -> uuid.UUID:
        # Its transaction, and so its job's creation time, is the older one; its version is the newer.
        with services.database.system_transaction() as connection:
            connection.execute(select(func.now()))
            began_first.set()
            assert may_go_on.wait(LIMIT_SECONDS)
            return uploading(services, "two", external_id="x")(connection).job_id  # type: ignore[no-any-return]

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(slow)
        assert began_first.wait(LIMIT_SECONDS)
        first = add(services, "one", external_id="x", collection=collection)
        may_go_on.set()
        newest = outcome.result(LIMIT_SECONDS)
    with services.database.system_transaction() as connection:
        shown = get_file(connection, TENANT, first.file_id)
    assert (shown["newest_version"], shown["job_id"], shown["state"]) == (2, newest, "pending")
    assert job(services, first.job_id)["state"] == "cancelled"


def test_an_upload_during_the_deletion_of_its_file_makes_a_new_file(services: Services) -> None:
    old = add(services, "one", external_id="x")
    new = overlap(services, deleting(old.file_id), uploading(services, "one", external_id="x"))
    assert not new.deduplicated
    assert new.file_id != old.file_id
    assert job(services, new.job_id)["state"] == "pending"
    assert job(services, old.job_id)["state"] == "cancelled"


def test_an_upload_during_the_deletion_of_its_collection_is_told_so(services: Services) -> None:
    upload = uploading(services, "one", external_id="x")
    with pytest.raises(CollectionNotFound):
        overlap(services, dropping, upload)
    assert count_rows(services, Job) == 0


def test_a_collection_deleted_during_an_upload_takes_the_upload_along(services: Services) -> None:
    overlap(services, uploading(services, "one"), dropping)
    assert count_rows(services, FileRow) == count_rows(services, Job) == 0


def test_a_commit_during_the_deletion_of_its_file_leaves_nothing(services: Services) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    with pytest.raises(Cancelled):
        overlap(services, deleting(added.file_id), committing(attempt, "ghost"))
    assert chunk_texts(services) == []
    assert fail(services, attempt, Cancelled()) == "cancelled"


def test_a_deletion_during_the_commit_of_its_file_takes_what_was_committed(services: Services) -> None:
    added = add(services)
    overlap(services, committing(claim(services, added.job_id), "short-lived"), deleting(added.file_id))
    assert chunk_texts(services) == []
    with pytest.raises(FileNotFound), services.database.system_transaction() as connection:
        get_file(connection, TENANT, added.file_id)


@pytest.mark.parametrize("commit_first", [True, False])
def test_a_commit_and_the_deletion_of_its_collection_do_not_wait_in_a_circle(
    services: Services, commit_first: bool
) -> None:
    committed = committing(claim(services, add(services).job_id), "a", "b")
    if commit_first:
        overlap(services, committed, dropping)
    else:
        with pytest.raises(LeaseLost):
            overlap(services, dropping, committed)
    assert chunk_texts(services) == []
    assert count_rows(services, Job) == 0


def test_a_collection_dropped_in_the_middle_of_a_commit_waits_for_its_end(services: Services) -> None:
    attempt = claim(services, add(services).job_id)

    def drop() -> None:
        with services.database.system_transaction() as connection:
            connection.execute(text("SET LOCAL application_name = 'second'"))
            dropping(connection)

    with ThreadPoolExecutor(1) as pool:
        dropped: list[Future[None]] = []

        def chunks() -> Iterator[ChunkValues]:
            # The file is locked; the new rows' reference to the collection is not checked yet.
            dropped.append(pool.submit(drop))
            eventually(lambda: second_waits(services))
            yield from values_of(["a", "b"])

        with services.database.system_transaction() as connection:
            commit_file(
                connection,
                attempt,
                text="a b",
                media_type="text/plain",
                page_count=1,
                chunks=chunks(),
                timings={},
            )
        dropped[0].result(LIMIT_SECONDS)
    assert chunk_texts(services) == []


def test_a_cancel_before_the_commit_wins_and_one_after_it_changes_nothing(services: Services) -> None:
    cancelled = add(services, "one")
    attempt = claim(services, cancelled.job_id)
    with pytest.raises(Cancelled):
        overlap(services, cancelling(cancelled.job_id), committing(attempt, "no"))
    assert fail(services, attempt, Cancelled()) == "cancelled"
    committed = add(services, "two")
    answer = overlap(
        services, committing(claim(services, committed.job_id), "yes"), cancelling(committed.job_id)
    )
    assert answer["state"] == "completed"
    assert answer["cancel_requested_at"] is None
    assert chunk_texts(services) == ["yes"]


@pytest.mark.parametrize("error", [WorkerLost(), JobTimeout()])
def test_a_cancel_is_not_lost_when_the_attempt_ends_meanwhile(services: Services, error: EmberqError) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    assert overlap(services, failing(attempt, error), cancelling(added.job_id))["state"] == "cancelled"
    with services.database.system_transaction() as connection:
        assert admit_jobs(connection, limit=10) == []


def test_a_cancel_is_not_lost_when_the_attempt_begins_meanwhile(services: Services) -> None:
    added = add(services)
    with services.database.system_transaction() as connection:
        [(job_id, ticket)] = admit_jobs(connection, limit=1)
    taken: list[Attempt | None] = []
    answer = overlap(
        services,
        lambda connection: taken.append(
            claim_job(connection, job_id, ticket=ticket, worker="w", host_id=None)
        ),
        cancelling(added.job_id),
    )
    assert (answer["state"], answer["cancel_requested_at"] is None) == ("processing", False)
    (attempt,) = taken
    assert attempt is not None
    with pytest.raises(Cancelled):
        commit(services, attempt, ["no"])


def test_a_replacement_is_not_lost_on_an_attempt_that_ends_meanwhile(services: Services) -> None:
    old = add(services, "one", external_id="x")
    attempt = claim(services, old.job_id)
    new = overlap(services, failing(attempt, WorkerLost()), uploading(services, "two", external_id="x"))
    assert job(services, old.job_id)["state"] == "cancelled"
    commit(services, claim(services, new.job_id), ["two"])
    assert chunk_texts(services) == ["two"]


def test_a_replacement_during_the_commit_of_the_old_version_follows_it(services: Services) -> None:
    old = add(services, "one", external_id="x")
    new = overlap(
        services, committing(claim(services, old.job_id), "one"), uploading(services, "two", external_id="x")
    )
    assert (chunk_texts(services), job(services, old.job_id)["state"]) == (["one"], "completed")
    commit(services, claim(services, new.job_id), ["two"])
    assert chunk_texts(services) == ["two"]


def test_an_old_version_does_not_commit_during_its_replacement(services: Services) -> None:
    attempt = claim(services, add(services, "one", external_id="x").job_id)
    with pytest.raises(Cancelled):
        overlap(services, uploading(services, "two", external_id="x"), committing(attempt, "one"))
    assert chunk_texts(services) == []


def test_a_retry_does_not_revive_the_job_of_a_file_that_is_being_deleted(services: Services) -> None:
    added = add(services)
    cancel(services, added.job_id)
    answer = overlap(
        services,
        deleting(added.file_id),
        lambda connection: retry_job(connection, TENANT, added.job_id),
    )
    assert answer["state"] == "cancelled"


def test_a_deletion_finds_the_job_that_is_being_retried(services: Services) -> None:
    added = add(services)
    cancel(services, added.job_id)
    overlap(
        services,
        lambda connection: retry_job(connection, TENANT, added.job_id),
        deleting(added.file_id),
    )
    assert job(services, added.job_id)["state"] == "cancelled"


def test_a_retry_does_not_revive_a_version_that_is_being_replaced(services: Services) -> None:
    old = add(services, "one", external_id="x")
    cancel(services, old.job_id)
    answer = overlap(
        services,
        uploading(services, "two", external_id="x"),
        lambda connection: retry_job(connection, TENANT, old.job_id),
    )
    assert answer["state"] == "cancelled"


def test_one_ticket_delivered_twice_at_once_opens_its_job_once(services: Services) -> None:
    add(services)
    with services.database.system_transaction() as connection:
        [(job_id, ticket)] = admit_jobs(connection, limit=1)

    def claiming(worker: str) -> Step:
        return lambda connection: claim_job(connection, job_id, ticket=ticket, worker=worker, host_id=None)

    assert overlap(services, claiming("one"), claiming("two")) is None
    row = job(services, job_id)
    assert (row["attempt"], row["worker"]) == (1, "one")


def test_a_worker_that_lost_its_copy_of_a_ticket_does_not_end_the_attempt_of_another(
    services: Services,
) -> None:
    attempt = claim(services, add(services).job_id, worker="other")
    row = job(services, attempt.job_id)

    def losing(worker: str) -> str | None:
        with services.database.system_transaction() as connection:
            return fail_attempt(
                connection,
                attempt.job_id,
                WorkerLost(),
                ticket=row["ticket"],
                worker=worker,
                retry_delay_seconds=60,
            )

    assert losing("mine") is None
    assert job(services, attempt.job_id)["state"] == "processing"
    assert losing("other") == "pending"


def test_two_reapers_at_once_take_an_orphan_over_once(services: Services) -> None:
    attempt = claim(services, add(services).job_id)

    def reaping(connection: Connection) -> int:
        orphans = jobs_of_expired_hosts(connection)
        for orphan in orphans:
            fail_attempt(
                connection, orphan["id"], WorkerLost(), fence=orphan["fence"], retry_delay_seconds=60
            )
        return len(orphans)

    assert overlap(services, reaping, reaping) == 0
    row = job(services, attempt.job_id)
    assert (row["state"], row["attempt"], len(row["attempts"])) == ("pending", 1, 1)


def test_a_reaper_and_the_commit_of_a_late_worker_do_not_both_win(services: Services) -> None:
    attempt = claim(services, add(services).job_id)
    with pytest.raises(LeaseLost):
        overlap(services, failing(attempt, WorkerLost()), committing(attempt, "late"))
    again = claim(services, attempt.job_id)
    overlap(services, committing(again, "in time"), failing(again, WorkerLost()))
    assert chunk_texts(services) == ["in time"]
    with services.database.system_transaction() as connection:
        assert get_job(connection, TENANT, attempt.job_id)["state"] == "completed"
