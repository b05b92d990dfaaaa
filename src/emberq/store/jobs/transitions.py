"""The UPDATE statements that move jobs, built from the transitions of `emberq.store.schema.job_states`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Update, case, or_, update

from emberq.store.jobs.fence import allowed, in_state
from emberq.store.schema.job_states import Transition
from emberq.store.schema.tables import Job, job_sequence


def move(*transitions: Transition, fence: int | None = None, ticket: str | None = None) -> Update:
    """Return one UPDATE that makes the permitted one of these transitions for each job.

    The transitions start from different states. It is one statement because PostgreSQL then waits for a
    concurrent change of the row and checks its newest state; of two statements in a row each could miss the
    change.
    """
    state: Any = transitions[0].target
    if len(transitions) > 1:
        state = case(*((in_state(*transition.sources), transition.target) for transition in transitions))
    return (
        update(Job)
        .where(or_(*(allowed(transition, fence=fence, ticket=ticket) for transition in transitions)))
        .values(state=state, seq=job_sequence.next_value())
    )
