"""How attempts end that did not commit: the reasons of every one stay with the job."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from emberq.errors import (
    CorruptFile,
    EmberqError,
    ExtractionCrashed,
    ExtractionTimeout,
    JobStalled,
    JobTimeout,
    MemoryLimitExceeded,
    WorkerLost,
)
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import Attempt, record_progress
from emberq.store.jobs.finish import fail_attempt
from emberq.store.jobs.queries import retry_job
from emberq.store.schema.tables import Job
from emberq.store.services import Services
from tests.integration.store.steps import add, cancel, claim, commit, fail, job


def start(services: Services, attempt: Attempt, stage: str) -> None:
    with services.database.system_transaction() as connection:
        record_progress(connection, attempt, stage=stage, done=0, total=1, timings={})


def again(services: Services) -> None:
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET not_before = NULL"))


def run_and_fail(services: Services, job_id: Any, *errors: EmberqError) -> dict[str, Any]:
    for number, error in enumerate(errors):
        again(services)
        fail(services, claim(services, job_id, worker=f"w{number}"), error)
    return job(services, job_id)


def test_the_reasons_of_all_attempts_are_kept_also_when_the_last_one_succeeds(services: Services) -> None:
    added = add(services)
    first = claim(services, added.job_id, worker="w1")
    start(services, first, "extracting")
    fail(services, first, ExtractionCrashed("The reader crashed."))
    again(services)
    second = claim(services, added.job_id, worker="w2")
    start(services, second, "embedding")
    fail(services, second, WorkerLost("The host went silent."))
    commit(services, claim(services, added.job_id), ["text"])
    row = job(services, added.job_id)
    assert (row["state"], row["error"], row["error_code"]) == ("completed", None, None)
    kept = [{key: reason[key] for key in reason if key != "at"} for reason in row["attempts"]]
    assert kept == [
        {
            "attempt": 1,
            "code": "extraction_crashed",
            "message": "The reader crashed.",
            "stage": "extracting",
            "worker": "w1",
        },
        {
            "attempt": 2,
            "code": "worker_lost",
            "message": "The host went silent.",
            "stage": "embedding",
            "worker": "w2",
        },
    ]


def test_a_quarantine_says_how_often_the_worker_was_lost_and_shows_every_reason(services: Services) -> None:
    added = add(services)
    ended = run_and_fail(
        services, added.job_id, WorkerLost("signal 9"), JobTimeout(), WorkerLost("signal 11")
    )
    assert (ended["state"], ended["quarantined"], ended["error_code"]) == ("failed", True, "quarantined")
    assert "in 2 of 3 attempts" in ended["error"]["message"]
    assert "signal 11" in ended["error"]["message"]
    assert [reason["code"] for reason in ended["attempts"]] == ["worker_lost", "job_timeout", "worker_lost"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ExtractionTimeout("It took too long."), ExtractionTimeout("It took too long.")),
        (MemoryLimitExceeded("It took too much."), JobTimeout("It took too long.")),
        (JobStalled("It did nothing."), MemoryLimitExceeded("It took too much.")),
    ],
    ids=lambda error: error.code,
)
def test_the_second_end_by_time_or_memory_is_final_and_says_so(
    services: Services, first: EmberqError, second: EmberqError
) -> None:
    added = add(services)
    ended = run_and_fail(services, added.job_id, first, WorkerLost("signal 9"))
    assert (ended["state"], ended["attempt"]) == ("pending", 2)
    ended = run_and_fail(services, add(services, "two").job_id, first, second)
    assert (ended["state"], ended["attempt"], ended["quarantined"]) == ("failed", 2, False)
    assert ended["error_code"] == second.code
    assert ended["error"]["message"].startswith(second.message)
    assert "not tried again" in ended["error"]["message"]
    assert ended["error"]["hint"] == second.hint
    assert [reason["code"] for reason in ended["attempts"]] == [first.code, second.code]


def test_a_retry_by_a_user_forgets_earlier_ends_by_time_or_memory(services: Services) -> None:
    added = add(services)
    run_and_fail(services, added.job_id, JobTimeout(), JobTimeout())
    with services.database.system_transaction() as connection:
        retry_job(connection, "default", added.job_id)
    assert run_and_fail(services, added.job_id, JobTimeout())["state"] == "pending"
    assert run_and_fail(services, added.job_id, JobTimeout())["state"] == "failed"


def test_a_job_that_runs_out_of_attempts_otherwise_is_not_quarantined(services: Services) -> None:
    added = add(services)
    ended = run_and_fail(services, added.job_id, WorkerLost(), WorkerLost(), JobTimeout())
    assert (ended["state"], ended["quarantined"], ended["error_code"]) == ("failed", False, "job_timeout")


def test_a_retry_by_hand_counts_from_zero_and_keeps_what_was(services: Services) -> None:
    added = add(services)
    run_and_fail(services, added.job_id, *[WorkerLost()] * 3)
    with services.database.system_transaction() as connection:
        retry_job(connection, "default", added.job_id)
    ended = run_and_fail(services, added.job_id, ExtractionCrashed(), JobTimeout(), WorkerLost())
    assert "in 1 of 3 attempts" in ended["error"]["message"]
    assert [reason["attempt"] for reason in ended["attempts"]] == [1, 2, 3, 1, 2, 3]


def test_only_the_last_hundred_reasons_are_kept(services: Services) -> None:
    added = add(services)
    earlier = [{"code": "worker_lost", "message": f"reason {number}"} for number in range(100)]
    with services.database.system_transaction() as connection:
        connection.execute(update(Job).values(attempts=earlier))
    ended = run_and_fail(services, added.job_id, CorruptFile())
    assert len(ended["attempts"]) == 100
    assert [ended["attempts"][place]["code"] for place in (0, -1)] == ["worker_lost", "corrupt_file"]
    assert ended["attempts"][0]["message"] == "reason 1"


def test_a_job_with_a_requested_cancellation_is_cancelled_however_its_attempt_ended(
    services: Services,
) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    cancel(services, added.job_id)
    assert fail(services, attempt, CorruptFile("cut short")) == "cancelled"
    row = job(services, added.job_id)
    assert (row["error_code"], row["attempts"][0]["code"]) == ("cancelled", "corrupt_file")


def test_a_pause_is_the_error_classes_and_a_lost_worker_needs_none(services: Services) -> None:
    for error, least, most in ((JobTimeout(), 48, 72), (WorkerLost(), 0, 0)):
        added = add(services, error.code)
        fail(services, claim(services, added.job_id), error)
        with services.database.system_transaction() as connection:
            pause = func.extract("epoch", func.coalesce(Job.not_before, func.now()) - func.now())
            seconds = connection.execute(select(pause).where(Job.id == added.job_id)).scalar_one()
        # The transaction in between may have taken its time.
        assert least - 20 <= seconds <= most


def test_a_horse_that_died_before_its_claim_costs_no_attempt(services: Services) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    fail(services, attempt, WorkerLost())
    with services.database.system_transaction() as connection:
        [(job_id, ticket)] = admit_jobs(connection, limit=1)
        state = fail_attempt(
            connection, job_id, WorkerLost(), ticket=ticket, worker="w", retry_delay_seconds=60
        )
    row = job(services, added.job_id)
    assert (state, row["state"], row["attempt"], len(row["attempts"])) == ("pending", "pending", 1, 1)


def test_an_attempt_must_be_named(services: Services) -> None:
    with (
        pytest.raises(TypeError, match="fencing token"),
        services.database.system_transaction() as connection,
    ):
        fail_attempt(connection, add(services).job_id, WorkerLost(), retry_delay_seconds=60)
