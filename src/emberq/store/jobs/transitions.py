"""The UPDATE statements that move jobs, built from the transitions of `emberq.store.schema.job_states`.

The fence is checked here: a claimed job is moved only with the newest fencing token.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Update, and_, case, exists, func, or_, update

from emberq.store.schema.job_states import PROOFS, Guard, JobState, Transition
from emberq.store.schema.tables import FileRow, Job, job_sequence

__all__ = ["allowed", "in_state", "move"]


def _its_file(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(FileRow.id == Job.file_id, condition)


#: The guards that the rows answer; the caller shows a token for the others, or decides them itself.
_CONDITIONS: dict[Guard, ColumnElement[bool]] = {
    Guard.DUE: or_(Job.not_before.is_(None), Job.not_before <= func.now()),
    Guard.ATTEMPTS_LEFT: Job.attempt < Job.max_attempts,
    Guard.ATTEMPTS_EXHAUSTED: Job.attempt >= Job.max_attempts,
    Guard.CANCEL_REQUESTED: Job.cancel_requested_at.is_not(None),
    Guard.CANCEL_NOT_REQUESTED: Job.cancel_requested_at.is_(None),
    Guard.FILE_LIVE: _its_file(FileRow.deleted_at.is_(None)),
    Guard.NEWEST: _its_file(FileRow.newest_version == Job.version),
}


def in_state(*states: JobState) -> ColumnElement[bool]:
    """Return the condition that a job is in one of these states."""
    return Job.state.in_(states)


def allowed(
    transition: Transition, *, fence: int | None = None, ticket: str | None = None
) -> ColumnElement[bool]:
    """Return the condition under which a job may make a transition.

    Guards about the file read it as of the start of the statement. A caller that relies on them locks the
    file first, as the commit does.

    Args:
        transition: One of `TRANSITIONS`.
        fence: The fencing token shown; a claimed job cannot be moved without it.
        ticket: The ticket shown.

    Raises:
        TypeError: If the transition needs a token that is not shown.
    """
    conditions = [_CONDITIONS[guard] for guard in transition.guards if guard in _CONDITIONS]
    if Guard.TICKET in transition.guards:
        if ticket is None:
            msg = f"{transition.name!r} needs the ticket."
            raise TypeError(msg)
        conditions.append(Job.ticket == ticket)
    if PROOFS.keys() & {*transition.actors} and JobState.PROCESSING in transition.sources:
        if fence is None:
            msg = f"{transition.name!r} needs the fencing token."
            raise TypeError(msg)
        conditions.append(Job.fence == fence)
    return and_(in_state(*transition.sources), *conditions)


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
