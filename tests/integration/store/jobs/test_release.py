"""A job that comes back from a worker through no fault of its own: nothing is counted, nothing spins."""

from __future__ import annotations

import itertools
import uuid
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from emberq.errors import WorkerLost
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.finish import fail_attempt, release_attempt
from emberq.store.services import Services
from tests.integration.store.steps import add, cancel, claim, commit, job


def admit(services: Services, job_id: uuid.UUID) -> str:
    """Let the job's pause be over, admit it and return its ticket."""
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET not_before = NULL"))
        [(admitted, ticket)] = admit_jobs(connection, limit=1)
    assert admitted == job_id
    return ticket


def die_unclaimed(services: Services, job_id: uuid.UUID, *, ticket: str) -> dict[str, Any]:
    with services.database.system_transaction() as connection:
        error = WorkerLost("The horse ended by signal 9.")
        fail_attempt(connection, job_id, error, ticket=ticket, worker="w", retry_delay_seconds=60)
    return job(services, job_id)


def pause_of(row: dict[str, Any]) -> float:
    """Return how long the job waits, in seconds from when its delivery ended, by the database's clock."""
    if row["not_before"] is None:
        return 0.0
    pause: float = (row["not_before"] - datetime.fromisoformat(row["error"]["at"])).total_seconds()
    return pause


def test_horses_that_always_die_before_the_claim_do_not_spin_and_set_nothing_aside(
    services: Services,
) -> None:
    added = add(services)
    pauses = []
    for _ in range(12):
        row = die_unclaimed(services, added.job_id, ticket=admit(services, added.job_id))
        assert (row["state"], row["attempt"]) == ("pending", 0)
        pauses.append(pause_of(row))
    assert pauses[0] == 0.0, "one death is bad luck: the job is given out again at once"
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:8]))
    assert max(pauses) <= 60.0
    assert sum(pauses) > 120, "twelve deliveries take minutes, not a second"
    assert (row["waiting_reason"], row["error_code"]) == ("backoff", "worker_lost")


def test_a_claim_ends_the_row_of_returns(services: Services) -> None:
    added = add(services)
    for _ in range(3):
        die_unclaimed(services, added.job_id, ticket=admit(services, added.job_id))
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET not_before = NULL"))
    attempt = claim(services, added.job_id, worker="w")
    assert (attempt.attempt, job(services, added.job_id)["requeues"]) == (1, 0)
    commit(services, attempt, ["text"])
    row = job(services, added.job_id)
    assert (row["state"], row["error"], row["error_code"]) == ("completed", None, None)


def release(services: Services, job_id: uuid.UUID, *, ticket: str, worker: str = "w") -> str | None:
    with services.database.system_transaction() as connection:
        return release_attempt(connection, job_id, ticket=ticket, worker=worker)


def test_an_attempt_cut_off_by_a_leaving_worker_is_not_counted_and_waits_for_nothing(
    services: Services,
) -> None:
    added = add(services, max_attempts=1)
    for _ in range(3):
        attempt = claim(services, added.job_id, worker="w")
        assert attempt.attempt == 1
        assert release(services, added.job_id, ticket=job(services, added.job_id)["ticket"]) == "pending"
        row = job(services, added.job_id)
        assert (row["state"], row["attempt"], row["not_before"], row["attempts"]) == ("pending", 0, None, [])
        assert (row["worker"], row["host_id"], row["stage"]) == (None, None, None)
    commit(services, claim(services, added.job_id), ["text"])
    assert job(services, added.job_id)["state"] == "completed"


@pytest.mark.parametrize("case", ["another worker", "an older ticket", "asked to stop", "not claimed"])
def test_only_the_worker_that_has_the_attempt_releases_it(services: Services, case: str) -> None:
    added = add(services)
    ticket, worker = "", "w"
    if case == "not claimed":
        ticket = admit(services, added.job_id)
    else:
        claim(services, added.job_id, worker="w")
        ticket = job(services, added.job_id)["ticket"]
    if case == "another worker":
        worker = "x"
    if case == "an older ticket":
        ticket = f"{added.job_id}-0"
    if case == "asked to stop":
        cancel(services, added.job_id)
    before = job(services, added.job_id)
    assert release(services, added.job_id, ticket=ticket, worker=worker) is None
    assert job(services, added.job_id) == before
