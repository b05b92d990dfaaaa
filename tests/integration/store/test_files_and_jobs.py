"""The truth in SQL: acknowledgement, claim, fence, commit, retry, deletion."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DataError

from emberq.errors import (
    Cancelled,
    CorruptFile,
    ExtractionCrashed,
    FileNotFound,
    FileTooLarge,
    IdempotencyConflict,
    RateLimited,
    WorkerLost,
)
from emberq.store.files import files
from emberq.store.files.collections import delete_collection
from emberq.store.files.commit import ChunkValues, commit_file, known_vectors
from emberq.store.files.files import delete_file, get_file, get_text
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import LeaseLost, claim_job, record_progress
from emberq.store.jobs.finish import fail_attempt
from emberq.store.jobs.queries import cancel_job, retry_job
from emberq.store.schema.tables import ChunkRow
from emberq.store.services import Services
from tests.integration.store.steps import TENANT, add, chunk_texts, claim, commit, fail, job


def test_a_committed_file_is_visible_and_its_job_completed(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = add(services)
    commit(services, claim(services, added.job_id), ["alpha", "beta"])
    assert job(services, added.job_id)["state"] == "completed"
    assert chunk_texts(services) == ["alpha", "beta"]
    with services.database.system_transaction() as connection:
        assert get_text(connection, TENANT, added.file_id) == "alpha beta"
        assert get_text(connection, TENANT, added.file_id, start=2, end=7) == "pha b"
        assert get_text(connection, TENANT, added.file_id, start=6, end=99) == "beta"
        assert get_text(connection, TENANT, added.file_id, start=99) == ""
        monkeypatch.setattr(files, "MOST_TEXT_CHARACTERS", 5)
        with pytest.raises(FileTooLarge, match="10 characters"):
            get_text(connection, TENANT, added.file_id)
        assert get_text(connection, TENANT, added.file_id, start=5) == " beta"


def test_the_attempt_is_counted_at_the_claim(services: Services) -> None:
    added = add(services)
    assert claim(services, added.job_id).attempt == 1
    assert job(services, added.job_id)["attempt"] == 1


def test_a_ticket_opens_its_job_once(services: Services) -> None:
    added = add(services)
    with services.database.system_transaction() as connection:
        [(job_id, ticket)] = admit_jobs(connection, limit=1)
    for expected in (True, False):
        with services.database.system_transaction() as connection:
            attempt = claim_job(connection, job_id, ticket=ticket, worker="w", host_id=None)
            assert (attempt is not None) is expected
    assert job(services, added.job_id)["attempt"] == 1


def test_an_older_ticket_does_not_open_a_job_that_was_given_a_new_one(services: Services) -> None:
    add(services)
    with services.database.system_transaction() as connection:
        [(job_id, old)] = admit_jobs(connection, limit=1)
        fail_attempt(connection, job_id, WorkerLost(), ticket=old, worker="w", retry_delay_seconds=0)
        [(_, new)] = admit_jobs(connection, limit=1)
        assert claim_job(connection, job_id, ticket=old, worker="w", host_id=None) is None
        assert claim_job(connection, job_id, ticket=new, worker="w", host_id=None) is not None


def test_an_upload_does_not_join_a_job_with_a_requested_cancellation(services: Services) -> None:
    first = add(services, external_id="x")
    attempt = claim(services, first.job_id)
    with services.database.system_transaction() as connection:
        cancel_job(connection, TENANT, first.job_id)
    again = add(services, external_id="x")
    assert not again.deduplicated
    assert fail(services, attempt, Cancelled()) == "cancelled"
    commit(services, claim(services, again.job_id), ["a"])
    assert chunk_texts(services) == ["a"]


def test_a_stale_holder_cannot_commit_or_report(services: Services) -> None:
    added = add(services)
    stale = claim(services, added.job_id)
    assert fail(services, stale, WorkerLost()) == "pending"
    fresh = claim(services, added.job_id)
    assert fresh.fence > stale.fence
    with pytest.raises(LeaseLost):
        commit(services, stale, ["stale"])
    with pytest.raises(LeaseLost), services.database.system_transaction() as connection:
        record_progress(connection, stale, stage="embedding", done=1, total=2, timings={})
    assert fail(services, stale, CorruptFile()) is None
    commit(services, fresh, ["fresh"])
    assert chunk_texts(services) == ["fresh"]


def test_a_lost_worker_is_retried_at_once_and_quarantined_in_the_end(services: Services) -> None:
    added = add(services, max_attempts=2)
    assert fail(services, claim(services, added.job_id), WorkerLost()) == "pending"
    assert fail(services, claim(services, added.job_id), WorkerLost()) == "failed"
    ended = job(services, added.job_id)
    assert ended["quarantined"]
    assert ended["error"]["code"] == "quarantined"
    assert ended["error"]["attempt"] == 2


def test_a_bad_file_fails_at_once_and_a_crash_waits_for_its_retry(services: Services) -> None:
    bad = add(services, "bad")
    assert fail(services, claim(services, bad.job_id), CorruptFile("cut short")) == "failed"
    crashed = add(services, "crash")
    assert fail(services, claim(services, crashed.job_id), ExtractionCrashed()) == "pending"
    waiting = job(services, crashed.job_id)
    assert waiting["waiting_reason"] == "backoff"
    with services.database.system_transaction() as connection:
        assert admit_jobs(connection, limit=10) == []


def test_the_same_bytes_under_the_same_external_id_are_found_again(services: Services) -> None:
    first = add(services, external_id="x")
    commit(services, claim(services, first.job_id), ["a"])
    again = add(services, external_id="x")
    assert again.deduplicated
    assert (again.file_id, again.job_id) == (first.file_id, first.job_id)


def test_the_same_bytes_with_another_name_or_metadata_update_the_file(services: Services) -> None:
    first = add(services, external_id="x", metadata={"a": 1}, source="here")
    assert first.outcome == "created"
    commit(services, claim(services, first.job_id), ["a"])
    assert add(services, external_id="x").outcome == "unchanged"
    assert add(services, external_id="x", metadata={"a": True}).outcome == "updated"
    assert add(services, external_id="x", name="b.txt", source="there").outcome == "updated"
    assert add(services, external_id="x", name="b.txt", source="over there").outcome == "unchanged"
    with services.database.system_transaction() as connection:
        file = get_file(connection, TENANT, first.file_id)
    assert (file["name"], file["metadata"], file["source"]) == ("b.txt", {"a": True}, "over there")
    assert (file["newest_version"], file["job_id"]) == (1, first.job_id)


def test_new_bytes_keep_the_metadata_unless_there_is_new(services: Services) -> None:
    first = add(services, "v1", external_id="x", metadata={"a": 1}, source="here")
    second = add(services, "v2", external_id="x")
    assert second.outcome == "replaced"
    with services.database.system_transaction() as connection:
        file = get_file(connection, TENANT, first.file_id)
    assert (file["metadata"], file["source"]) == ({"a": 1}, "here")
    add(services, "v3", external_id="x", metadata={})
    with services.database.system_transaction() as connection:
        assert get_file(connection, TENANT, first.file_id)["metadata"] == {}


def test_the_same_bytes_retry_a_job_that_failed_and_make_no_new_version(services: Services) -> None:
    first = add(services, external_id="x")
    fail(services, claim(services, first.job_id), CorruptFile())
    again = add(services, external_id="x", max_pending=1)
    assert (again.outcome, again.file_id, again.job_id) == ("retried", first.file_id, first.job_id)
    assert again.deduplicated
    assert (job(services, first.job_id)["state"], job(services, first.job_id)["attempt"]) == ("pending", 0)
    assert add(services, external_id="x").outcome == "unchanged"
    commit(services, claim(services, again.job_id), ["a"])
    with services.database.system_transaction() as connection:
        assert get_file(connection, TENANT, first.file_id)["newest_version"] == 1


def test_the_same_bytes_do_not_leave_quarantine(services: Services) -> None:
    first = add(services, external_id="x", max_attempts=1)
    fail(services, claim(services, first.job_id), WorkerLost())
    assert job(services, first.job_id)["quarantined"]
    again = add(services, external_id="x")
    assert (again.outcome, again.job_id) == ("unchanged", first.job_id)
    assert job(services, first.job_id)["state"] == "failed"


def test_a_retry_by_an_upload_counts_as_a_waiting_job(services: Services) -> None:
    first = add(services, external_id="x")
    fail(services, claim(services, first.job_id), CorruptFile())
    add(services, external_id="y")
    with pytest.raises(RateLimited):
        add(services, external_id="x", max_pending=1)
    assert job(services, first.job_id)["state"] == "failed"


def test_new_bytes_replace_the_old_version_in_one_step(services: Services) -> None:
    first = add(services, "v1", external_id="x")
    commit(services, claim(services, first.job_id), ["old one", "old two"])
    second = add(services, "v2", external_id="x")
    assert second.file_id == first.file_id
    assert chunk_texts(services) == ["old one", "old two"]
    commit(services, claim(services, second.job_id), ["new"])
    assert chunk_texts(services) == ["new"]


def test_a_newer_version_wins_whichever_commits_last(services: Services) -> None:
    old = claim(services, add(services, "v1", external_id="x").job_id)
    new = claim(services, add(services, "v2", external_id="x").job_id)
    commit(services, new, ["new"])
    with pytest.raises(Cancelled):
        commit(services, old, ["old"])
    assert chunk_texts(services) == ["new"]


def test_files_with_the_same_bytes_are_independent(services: Services) -> None:
    one, two = add(services), add(services)
    assert one.file_id != two.file_id
    for added in (one, two):
        commit(services, claim(services, added.job_id), ["same"])
    with services.database.system_transaction() as connection:
        delete_file(connection, TENANT, one.file_id)
    assert chunk_texts(services) == ["same"]


def test_a_deleted_file_does_not_come_back(services: Services) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    with services.database.system_transaction() as connection:
        delete_file(connection, TENANT, added.file_id)
    with pytest.raises(Cancelled):
        commit(services, attempt, ["ghost"])
    assert chunk_texts(services) == []
    with pytest.raises(FileNotFound), services.database.system_transaction() as connection:
        get_file(connection, TENANT, added.file_id)


def test_a_deleted_collection_takes_its_running_jobs_along(services: Services) -> None:
    attempt = claim(services, add(services).job_id)
    with services.database.system_transaction() as connection:
        delete_collection(connection, TENANT, "docs")
    with pytest.raises(LeaseLost):
        commit(services, attempt, ["ghost"])


def test_cancelling_stops_a_waiting_job_and_asks_a_running_one(services: Services) -> None:
    waiting = add(services, "waiting")
    with services.database.system_transaction() as connection:
        assert cancel_job(connection, TENANT, waiting.job_id)["state"] == "cancelled"
    running = claim(services, add(services, "running").job_id)
    with services.database.system_transaction() as connection:
        assert cancel_job(connection, TENANT, running.job_id)["state"] == "processing"
    with pytest.raises(Cancelled), services.database.system_transaction() as connection:
        record_progress(connection, running, stage="embedding", done=1, total=2, timings={})
    assert fail(services, running, WorkerLost()) == "cancelled"


def test_a_failed_job_can_be_retried_from_the_start(services: Services) -> None:
    added = add(services)
    fail(services, claim(services, added.job_id), CorruptFile())
    with services.database.system_transaction() as connection:
        again = retry_job(connection, TENANT, added.job_id)
    assert (again["state"], again["attempt"], again["error"]) == ("pending", 0, None)


def test_an_idempotency_key_answers_alike_and_refuses_another_upload(services: Services) -> None:
    first = add(services, external_id="x", idempotency_key="k")
    assert add(services, external_id="x", idempotency_key="k").job_id == first.job_id
    with pytest.raises(IdempotencyConflict):
        add(services, "other", external_id="x", idempotency_key="k")


def test_a_tenant_with_too_much_waiting_is_told_to_come_again(services: Services) -> None:
    add(services, max_pending=1)
    with pytest.raises(RateLimited):
        add(services, "more", max_pending=1)


def test_known_vectors_are_found_by_fingerprint_within_the_tenant(services: Services) -> None:
    commit(services, claim(services, add(services).job_id), ["a", "b"])
    with services.database.system_transaction() as connection:
        found = known_vectors(connection, TENANT, [bytes([1]), bytes([9])])
        assert list(found) == [bytes([1])]
        assert found[bytes([1])][0] == 2.0
        assert known_vectors(connection, "other", [bytes([1])]) == {}


def test_every_change_of_a_job_moves_its_sequence_number(services: Services) -> None:
    added = add(services)
    seen = [job(services, added.job_id)["seq"]]
    attempt = claim(services, added.job_id)
    seen.append(job(services, added.job_id)["seq"])
    with services.database.system_transaction() as connection:
        record_progress(connection, attempt, stage="embedding", done=1, total=2, timings={"extracting": 0.1})
    seen.append(job(services, added.job_id)["seq"])
    commit(services, attempt, ["a"])
    seen.append(job(services, added.job_id)["seq"])
    assert seen == sorted(set(seen))


def test_an_interrupted_commit_leaves_nothing(services: Services) -> None:
    attempt = claim(services, add(services).job_id)
    broken = ChunkValues(0, "text\0nul", 0, 1, None, None, b"f", np.ones(384, dtype=np.float32))
    with pytest.raises(DataError), services.database.system_transaction() as connection:
        commit_file(
            connection,
            attempt,
            text="t",
            media_type="text/plain",
            page_count=None,
            chunks=[broken],
            timings={},
        )
    with services.database.system_transaction() as connection:
        assert connection.execute(select(func.count()).select_from(ChunkRow)).scalar_one() == 0
    assert job(services, attempt.job_id)["state"] == "processing"
