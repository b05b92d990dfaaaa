"""The database refuses what `states.py` does not list; a move starts where its transition does."""

from __future__ import annotations

import pytest
from sqlalchemy import RowMapping, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from emberq.store.jobs.claim import LeaseLost, record_progress
from emberq.store.jobs.transitions import move
from emberq.store.schema import job_states
from emberq.store.schema.job_states import TRANSITIONS, JobState
from emberq.store.schema.tables import Job
from emberq.store.services import Services
from tests.integration.store.steps import add, claim, commit, job

#: Every pair of different states that some transition joins.
PERMITTED = {
    (source, transition.target)
    for transition in TRANSITIONS
    for source in transition.sources
    if transition.target is not None and source != transition.target
}


def taken_out(services: Services) -> RowMapping:
    """Return the row of a job that is no longer in its table, to be put back in any state."""
    added = add(services)
    with services.database.system_transaction() as connection:
        row = connection.execute(select(*Job.__table__.c).where(Job.id == added.job_id)).mappings().one()
        connection.execute(delete(Job))
    return row


def test_the_database_refuses_exactly_the_changes_that_no_transition_makes(services: Services) -> None:
    row = taken_out(services)
    refused = set()
    for source in JobState:
        for target in JobState:
            with services.database.system_transaction() as connection:
                connection.execute(insert(Job).values({**row, "state": source}))
                try:
                    with connection.begin_nested():
                        connection.execute(update(Job).values(state=target))
                except IntegrityError:
                    refused.add((source, target))
                connection.execute(delete(Job))
    different = {(source, target) for source in JobState for target in JobState if source != target}
    assert refused == different - PERMITTED


def test_the_database_refuses_a_state_that_is_none_and_an_attempt_too_many(services: Services) -> None:
    add(services)
    for statement in (
        'INSERT INTO jobs SELECT (jsonb_populate_record(j, \'{"state":"resting"}\')).* FROM jobs j',
        "UPDATE jobs SET attempt = max_attempts + 1",
    ):
        with pytest.raises(IntegrityError), services.database.system_transaction() as connection:
            connection.execute(text(statement))


@pytest.mark.parametrize(
    "transition",
    [transition for transition in TRANSITIONS if transition.sources and transition.target],
    ids=lambda transition: transition.name,
)
def test_a_move_starts_from_its_transitions_states_only(
    services: Services, transition: job_states.Transition
) -> None:
    row = taken_out(services)
    moved = set()
    for source in JobState:
        with services.database.system_transaction() as connection:
            connection.execute(
                insert(Job).values({**row, "state": source, "ticket": "t", "fence": 1, "max_attempts": 1})
            )
            if job_states.Guard.ATTEMPTS_EXHAUSTED in transition.guards:
                connection.execute(update(Job).values(attempt=1))
            if job_states.Guard.CANCEL_REQUESTED in transition.guards:
                connection.execute(text("UPDATE jobs SET cancel_requested_at = now()"))
            if connection.execute(move(transition, fence=1, ticket="t")).rowcount:
                moved.add(source)
                assert connection.execute(select(Job.state)).scalar_one() == transition.target
            connection.execute(delete(Job))
    assert moved == set(transition.sources)


def test_only_the_newest_token_moves_a_claimed_job(services: Services) -> None:
    added = add(services)
    attempt = claim(services, added.job_id)
    stale = type(attempt)(
        **{**{f: getattr(attempt, f) for f in attempt.__slots__}, "fence": attempt.fence - 1}
    )
    with pytest.raises(LeaseLost), services.database.system_transaction() as connection:
        record_progress(connection, stale, stage="embedding", done=1, total=2, timings={})
    with pytest.raises(LeaseLost):
        commit(services, stale, ["stale"])
    with pytest.raises(TypeError, match="fencing token"):
        move(job_states.COMMIT)
    with pytest.raises(TypeError, match="ticket"):
        move(job_states.CLAIM)
    assert job(services, added.job_id)["state"] == "processing"
