"""`/keys`: create, list, rotate and revoke API keys, for any tenant."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from emberq.api.auth import Admin, ServicesDep
from emberq.api.types import Text
from emberq.errors import KeyNotFound
from emberq.store.admin.api_keys import (
    LONGEST_VALIDITY_SECONDS,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)

router = APIRouter(prefix="/keys", tags=["keys"])

Tenant = Annotated[
    Text | None,
    Query(min_length=1, max_length=200, description="The keys' tenant; the caller's if left out."),
]
ValidSeconds = Annotated[
    float | None,
    Field(
        gt=0,
        le=LONGEST_VALIDITY_SECONDS,
        allow_inf_nan=False,
        description="Seconds after which the key expires.",
    ),
]


class KeyIn(BaseModel):
    """A key to create."""

    model_config = ConfigDict(extra="forbid")

    name: Text = Field(min_length=1, max_length=100)
    scopes: list[Text] | None = Field(
        None,
        max_length=10,
        description="read, write, admin. If left out: all for the first tenant, read and write for others.",
    )
    tenant: Text | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The tenant whose documents it gives access to; the caller's if left out.",
    )
    valid_seconds: ValidSeconds = None


class RotationIn(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid")

    grace_seconds: float = Field(
        86400.0,
        ge=0,
        le=LONGEST_VALIDITY_SECONDS,
        allow_inf_nan=False,
        description="Seconds for which the old key is still valid.",
    )
    valid_seconds: ValidSeconds = None


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
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="Exact to a minute.")
    revoked_at: datetime | None


class KeysOut(BaseModel):
    """The tenant's keys, newest first."""

    items: list[KeyInfo]


@router.post("", status_code=201)
def create(body: KeyIn, caller: Admin, services: ServicesDep) -> KeyOut:
    """Create a key."""
    tenant = body.tenant or caller.tenant
    with services.database.tenant_transaction(tenant) as connection:
        return KeyOut(
            key=create_key(
                connection,
                name=body.name,
                tenant=tenant,
                scopes=body.scopes,
                valid_seconds=body.valid_seconds,
                actor=caller.actor,
            )
        )


@router.get("")
def list_all(caller: Admin, services: ServicesDep, tenant: Tenant = None) -> KeysOut:
    """List the keys."""
    owner = tenant or caller.tenant
    with services.database.tenant_transaction(owner) as connection:
        return KeysOut(items=[KeyInfo(**row) for row in list_keys(connection, owner)])


@router.post("/{named}/rotate", status_code=201)
def rotate(
    named: Text, body: RotationIn, caller: Admin, services: ServicesDep, tenant: Tenant = None
) -> KeyOut:
    """Create a key in the place of another one, given by name, prefix or id, which expires after a grace."""
    owner = tenant or caller.tenant
    with services.database.tenant_transaction(owner) as connection:
        return KeyOut(
            key=rotate_key(
                connection,
                owner,
                named,
                grace_seconds=body.grace_seconds,
                valid_seconds=body.valid_seconds,
                actor=caller.actor,
            )
        )


@router.delete("/{prefix_or_id}", status_code=204)
def revoke(prefix_or_id: Text, caller: Admin, services: ServicesDep, tenant: Tenant = None) -> None:
    """Revoke a key, given by its id or by the prefix that listings show."""
    owner = tenant or caller.tenant
    with services.database.tenant_transaction(owner) as connection:
        if not revoke_key(connection, owner, prefix_or_id, actor=caller.actor):
            raise KeyNotFound(f"There is no valid key {prefix_or_id!r}.")
