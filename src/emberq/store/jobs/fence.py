"""The fence: the condition under which a job may make a transition.

A claimed job is changed only with its newest fencing token. Every UPDATE of `jobs.state` carries this
condition, the commit of a file among them.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, func, or_

from emberq.store.schema.job_states import PROOFS, Guard, JobState, Transition
from emberq.store.schema.tables import FileRow, Job


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
