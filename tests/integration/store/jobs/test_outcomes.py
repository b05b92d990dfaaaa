"""The counter of ended jobs never goes back, whatever becomes of their rows."""

from __future__ import annotations

from emberq.errors import CorruptFile
from emberq.store.files.collections import delete_collection
from emberq.store.jobs.queries import retry_job
from emberq.store.jobs.retention import purge_jobs
from emberq.store.jobs.stats import count_outcomes
from emberq.store.services import Services
from tests.integration.store.steps import TENANT, add, cancel, claim, commit, fail

CORRUPT, DONE, CANCELLED = ("failed", "corrupt_file"), ("completed", ""), ("cancelled", "cancelled")


def outcomes(services: Services) -> dict[tuple[str, str], int]:
    with services.database.system_transaction() as connection:
        return {(state, code): number for state, code, number in count_outcomes(connection)}


def test_a_job_that_is_retried_counts_for_each_of_its_ends(services: Services) -> None:
    added = add(services)
    fail(services, claim(services, added.job_id), CorruptFile())
    assert outcomes(services) == {CORRUPT: 1}
    with services.database.system_transaction() as connection:
        retry_job(connection, TENANT, added.job_id)
    assert outcomes(services) == {CORRUPT: 1}
    fail(services, claim(services, added.job_id), CorruptFile())
    assert outcomes(services) == {CORRUPT: 2}
    with services.database.system_transaction() as connection:
        retry_job(connection, TENANT, added.job_id)
    commit(services, claim(services, added.job_id), ["text"])
    assert outcomes(services) == {CORRUPT: 2, DONE: 1}


def test_purged_and_deleted_jobs_still_count(services: Services) -> None:
    for content in ("first", "second", "third"):
        added = add(services, content, external_id="a")
        commit(services, claim(services, added.job_id), [content])
    waiting = add(services, "fourth", external_id="b")
    cancel(services, waiting.job_id)
    add(services, "fifth", external_id="c")
    before = outcomes(services)
    assert before[DONE] == 3
    with services.database.system_transaction() as connection:
        assert purge_jobs(connection, None, older_than_seconds=0) == 2
    assert outcomes(services) == before
    with services.database.system_transaction() as connection:
        delete_collection(connection, TENANT, "docs")
    assert outcomes(services) == before
