"""The audit log: who changed which key, setting, pause or role, written in the change's own transaction."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, text

from emberq.store.schema.admin_tables import AuditEntry

_MAY_PURGE = text("SELECT has_table_privilege('audit_log', 'DELETE')")
#: The actor of what the command line does in the database itself, without a key.
COMMAND_LINE = "command line"


class Action(StrEnum):
    """What was done."""

    KEY_CREATE = "key.create"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    SETTING_SET = "setting.set"
    SETTING_UNSET = "setting.unset"
    PAUSE = "pause"
    RESUME = "resume"
    SECRET_ROTATE = "secret.rotate"  # noqa: S105 - the name of an action


def record(
    connection: Connection, *, actor: str, action: Action, target: str, tenant: str = "", **detail: Any
) -> None:
    """Write one entry; it is there if and only if the change is.

    Args:
        connection: The transaction of the change.
        actor: The name and prefix of the key that asked for it, or `COMMAND_LINE`.
        action: What was done.
        target: To what; a name, never a secret.
        tenant: The tenant whose things were changed; empty for all tenants.
        detail: What else is worth knowing, as JSON can write it; never a secret.
    """
    connection.execute(
        insert(AuditEntry).values(actor=actor, action=action, target=target, tenant=tenant, detail=detail)
    )


def list_entries(
    connection: Connection, *, tenant: str | None = None, before: int | None = None, limit: int = 100
) -> list[RowMapping]:
    """Return the latest entries, newest first.

    Args:
        connection: The transaction.
        tenant: Only of this tenant; of all if left out.
        before: Only entries with a smaller id, for the next page.
        limit: How many at most.
    """
    statement = select(*AuditEntry.__table__.c).order_by(AuditEntry.id.desc()).limit(limit)
    if tenant is not None:
        statement = statement.where(AuditEntry.tenant == tenant)
    if before is not None:
        statement = statement.where(AuditEntry.id < before)
    return list(connection.execute(statement).mappings())


def purge_audit_batch(connection: Connection, *, older_than_seconds: float, batch_rows: int = 1000) -> int:
    """Delete a batch of entries that are older than `older_than_seconds`, and return how many.

    The role of workers may not, and deletes none.
    """
    if not connection.execute(_MAY_PURGE).scalar_one():
        return 0
    old = (
        select(AuditEntry.id)
        .where(AuditEntry.at < func.now() - timedelta(seconds=older_than_seconds))
        .limit(batch_rows)
        .with_for_update(skip_locked=True)
        .cte()
    )
    return connection.execute(delete(AuditEntry).where(AuditEntry.id == old.c.id)).rowcount
