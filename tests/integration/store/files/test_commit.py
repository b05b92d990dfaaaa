"""What a commit that takes long, or whose host froze in it, holds up: its own file, and nothing else."""

from __future__ import annotations

from sqlalchemy import text

from emberq.store.files.commit import commit_file
from emberq.store.jobs.admission import admit_jobs
from emberq.store.services import Services
from tests.integration.store.steps import add, claim, job, values_of


def test_admitting_a_jobs_next_attempt_does_not_wait_for_the_commit_of_an_earlier_one(
    services: Services,
) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    other = add(services, "two")
    with services.database.system_transaction() as connection:
        # A job of the same file that was given back and is due.
        connection.execute(
            text("UPDATE jobs SET file_id = :file, not_before = now() WHERE id = :job"),
            {"file": added.file_id, "job": other.job_id},
        )
    with services.database.system_transaction() as committing:
        commit_file(
            committing,
            attempt,
            text="t",
            media_type="text/plain",
            page_count=1,
            chunks=values_of(["t"]),
            timings={},
        )
        with services.database.system_transaction() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            # It makes the job ready and then admits it: at the second change of a row in one transaction
            # PostgreSQL checks the row's references.
            admit_jobs(connection, limit=10)
    assert job(services, other.job_id)["state"] == "queued"
    assert job(services, added.job_id)["state"] == "completed"
