"""`/keys`: API keys of the caller's tenant."""

from __future__ import annotations

import uuid
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from emberq.api.auth import Admin, ServicesDep
from emberq.errors import InvalidRequest
from emberq.store.keys import ALL_SCOPES, create_key, list_keys, revoke_key

__all__ = ["router"]

router = APIRouter(prefix="/keys", tags=["keys"])


class KeyIn(BaseModel):
    """A key to make."""

    name: str = Field(min_length=1, max_length=100)
    scopes: list[str] = Field(default_factory=lambda: list(ALL_SCOPES))


class KeyOut(BaseModel):
    """A new key; shown once, kept as a hash."""

    key: str


class KeyInfo(BaseModel):
    """A key without the key."""

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
    """Make a key."""
    with services.database.transaction() as connection:
        return KeyOut(key=create_key(connection, name=body.name, tenant=caller.tenant, scopes=body.scopes))


@router.get("")
def list_all(caller: Admin, services: ServicesDep) -> KeysOut:
    """List the keys."""
    with services.database.transaction() as connection:
        return KeysOut(items=[KeyInfo(**row) for row in list_keys(connection, caller.tenant)])


@router.delete("/{prefix_or_id}", status_code=204)
def revoke(prefix_or_id: str, caller: Admin, services: ServicesDep) -> None:
    """Revoke a key by its id or the prefix that listings show."""
    with services.database.transaction() as connection:
        if not revoke_key(connection, caller.tenant, prefix_or_id):
            raise InvalidRequest(f"There is no valid key {prefix_or_id!r}.")
