"""`/keys`: create, list and revoke API keys, for any tenant."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from emberq.api.auth import Admin, ServicesDep
from emberq.errors import InvalidRequest
from emberq.store.admin.api_keys import create_key, list_keys, revoke_key

router = APIRouter(prefix="/keys", tags=["keys"])

Tenant = Annotated[
    str | None,
    Query(min_length=1, max_length=200, description="The keys' tenant; the caller's if left out."),
]


class KeyIn(BaseModel):
    """A key to create."""

    name: str = Field(min_length=1, max_length=100)
    scopes: list[str] | None = Field(
        None,
        description="read, write, admin. If left out: all for the first tenant, read and write for others.",
    )
    tenant: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The tenant whose documents it gives access to; the caller's if left out.",
    )


class KeyOut(BaseModel):
    """A new key; it is shown once, and only its hash is stored."""

    key: str


class KeyInfo(BaseModel):
    """The description of a key, without the key itself."""

    id: uuid.UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class KeysOut(BaseModel):
    """The tenant's keys, newest first."""

    items: list[KeyInfo]


@router.post("", status_code=201)
def create(body: KeyIn, caller: Admin, services: ServicesDep) -> KeyOut:
    """Create a key."""
    tenant = body.tenant or caller.tenant
    with services.database.tenant_transaction(tenant) as connection:
        return KeyOut(key=create_key(connection, name=body.name, tenant=tenant, scopes=body.scopes))


@router.get("")
def list_all(caller: Admin, services: ServicesDep, tenant: Tenant = None) -> KeysOut:
    """List the keys."""
    owner = tenant or caller.tenant
    with services.database.tenant_transaction(owner) as connection:
        return KeysOut(items=[KeyInfo(**row) for row in list_keys(connection, owner)])


@router.delete("/{prefix_or_id}", status_code=204)
def revoke(prefix_or_id: str, caller: Admin, services: ServicesDep, tenant: Tenant = None) -> None:
    """Revoke a key, given by its id or by the prefix that listings show."""
    owner = tenant or caller.tenant
    with services.database.tenant_transaction(owner) as connection:
        if not revoke_key(connection, owner, prefix_or_id):
            raise InvalidRequest(f"There is no valid key {prefix_or_id!r}.")
