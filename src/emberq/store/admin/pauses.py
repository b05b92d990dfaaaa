"""Pauses: no job of a paused queue, tenant or collection is started until it is resumed."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, or_, select, true
from sqlalchemy.dialects.postgresql import insert

from emberq.entry_points import QUEUE_NAME
from emberq.errors import InvalidRequest
from emberq.store.files.collections import get_collection
from emberq.store.jobs.admission import lock_admission
from emberq.store.jobs.transitions import move
from emberq.store.schema.job_states import REVOKE, JobState
from emberq.store.schema.tables import Job, Pause


class PauseScope(StrEnum):
    """What is paused."""

    QUEUE = "queue"
    TENANT = "tenant"
    COLLECTION = "collection"


def pause(connection: Connection, scope: PauseScope, tenant: str, name: str) -> int:
    """Pause a queue, a tenant or a collection; a second pause changes nothing.

    Running jobs finish. Tickets in Redis are revoked, so that no job starts after this commit.

    Args:
        connection: The transaction.
        scope: What to pause.
        tenant: The collection's tenant; ignored for other scopes.
        name: The name of the queue, tenant or collection.

    Returns:
        The number of revoked tickets.

    Raises:
        CollectionNotFound: If the tenant has no such collection.
        InvalidRequest: If there is no such queue.
    """
    lock_admission(connection)
    owner, collection_id = "", None
    affected: ColumnElement[bool] = true()
    if scope is PauseScope.QUEUE and name != QUEUE_NAME:
        raise InvalidRequest(f"There is no queue {name!r}.", hint=f"The documents' queue is {QUEUE_NAME!r}.")
    if scope is PauseScope.TENANT:
        owner, affected = name, Job.tenant == name
    elif scope is PauseScope.COLLECTION:
        owner, collection_id = tenant, get_collection(connection, tenant, name)["id"]
        affected = Job.collection_id == collection_id
    connection.execute(
        insert(Pause)
        .values(scope=scope, tenant=owner, name=name, collection_id=collection_id)
        .on_conflict_do_nothing()
    )
    return connection.execute(move(REVOKE).where(affected).values(ticket=None, queued_at=None)).rowcount


def resume(connection: Connection, scope: PauseScope, tenant: str, name: str) -> bool:
    """End a pause; tell whether there was one."""
    owner = {PauseScope.QUEUE: "", PauseScope.TENANT: name, PauseScope.COLLECTION: tenant}[scope]
    return bool(
        connection.execute(
            delete(Pause).where(Pause.scope == scope, Pause.tenant == owner, Pause.name == name)
        ).rowcount
    )


def list_pauses(connection: Connection, tenant: str) -> list[RowMapping]:
    """Return `scope, name, paused_at, waiting` of the pauses that apply to a tenant, oldest first."""
    waiting = (
        select(func.count())
        .select_from(Job)
        .where(
            Job.tenant == tenant,
            Job.state == JobState.PENDING,
            or_(Pause.collection_id.is_(None), Job.collection_id == Pause.collection_id),
        )
        .scalar_subquery()
    )
    rows = connection.execute(
        select(Pause.scope, Pause.name, Pause.paused_at, waiting.label("waiting"))
        .where(or_(Pause.tenant == tenant, and_(Pause.scope == PauseScope.QUEUE, Pause.tenant == "")))
        .order_by(Pause.paused_at, Pause.scope, Pause.name)
    )
    return list(rows.mappings())
