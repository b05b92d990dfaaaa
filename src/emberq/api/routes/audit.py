"""`/audit`: who changed which key, setting or pause."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from emberq.api.auth import Admin, ServicesDep
from emberq.api.types import Text
from emberq.store.admin.audit import list_entries

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditEntryOut(BaseModel):
    """One change."""

    id: int
    at: datetime
    actor: str = Field(description="The key that asked for it, by name and prefix; or `command line`.")
    tenant: str = Field(description="The tenant whose things were changed; empty for all tenants.")
    action: str
    target: str
    detail: dict[str, Any]


class AuditOut(BaseModel):
    """The latest changes, newest first."""

    items: list[AuditEntryOut]
    next_cursor: str | None = Field(description="Send it as `cursor` to get the next page.")


@router.get("")
def list_all(
    _caller: Admin,
    services: ServicesDep,
    tenant: Annotated[
        Text | None, Query(max_length=200, description="Only changes of this tenant's things.")
    ] = None,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditOut:
    """List the latest changes, newest first."""
    with services.database.system_transaction() as connection:
        rows = list_entries(connection, tenant=tenant, before=int(cursor) if cursor else None, limit=limit)
    return AuditOut(
        items=[AuditEntryOut(**row) for row in rows],
        next_cursor=str(rows[-1]["id"]) if len(rows) == limit else None,
    )
