"""API keys: shown once, stored as a hash."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from emberq.errors import Forbidden, Unauthorized
from emberq.store.admin.secrets import hash_api_key, new_api_key
from emberq.store.schema.admin_tables import ApiKey

#: The tenant of the first API key; an installation that names no tenants uses it.
DEFAULT_TENANT = "default"
#: The scopes of keys: reading, changing documents, and changing settings and keys.
ALL_SCOPES = ("read", "write", "admin")
_DOCUMENT_SCOPES = ("read", "write")

_columns = (
    ApiKey.id,
    ApiKey.tenant,
    ApiKey.name,
    ApiKey.prefix,
    ApiKey.scopes,
    ApiKey.created_at,
    ApiKey.revoked_at,
)


def create_key(
    connection: Connection, *, name: str, tenant: str = DEFAULT_TENANT, scopes: Sequence[str] | None = None
) -> str:
    """Make an API key and return it; it cannot be shown again.

    Args:
        connection: The transaction.
        name: The purpose of the key.
        tenant: The tenant of the key.
        scopes: What the key allows. By default all scopes for the first tenant, and `read` and `write` for
            others: `admin` is valid for all tenants, so it must be asked for.

    Raises:
        Forbidden: If a scope is not one of `ALL_SCOPES`.
    """
    scopes = scopes or (ALL_SCOPES if tenant == DEFAULT_TENANT else _DOCUMENT_SCOPES)
    unknown = set(scopes) - set(ALL_SCOPES)
    if unknown:
        raise Forbidden(
            f"There is no scope {', '.join(sorted(unknown))}.", hint=f"Scopes: {', '.join(ALL_SCOPES)}."
        )
    key = new_api_key()
    connection.execute(
        insert(ApiKey).values(
            id=uuid.uuid4(),
            tenant=tenant,
            name=name,
            prefix=key[:8],
            digest=hash_api_key(key),
            scopes=list(scopes),
        )
    )
    return key


def ensure_first_key(connection: Connection) -> str | None:
    """Make the first API key of an installation and return it; nothing if there is a key."""
    if connection.execute(select(func.count()).select_from(ApiKey)).scalar_one():
        return None
    return create_key(connection, name="first key")


def authenticate(connection: Connection, key: str) -> tuple[str, frozenset[str]]:
    """Return the tenant and the scopes of a key.

    Raises:
        Unauthorized: If the key is unknown or revoked.
    """
    found = connection.execute(
        select(ApiKey.tenant, ApiKey.scopes).where(
            ApiKey.digest == hash_api_key(key), ApiKey.revoked_at.is_(None)
        )
    ).one_or_none()
    if found is None:
        raise Unauthorized
    return found.tenant, frozenset(found.scopes)


def list_keys(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Return the keys of a tenant, newest first, without their secret part."""
    rows = connection.execute(
        select(*_columns).where(ApiKey.tenant == tenant).order_by(ApiKey.created_at.desc())
    )
    return [dict(row) for row in rows.mappings()]


def revoke_key(connection: Connection, tenant: str, prefix_or_id: str) -> int:
    """Revoke the keys with this id or prefix and return how many there were."""
    same_id = (
        ApiKey.id == uuid.UUID(prefix_or_id) if _is_uuid(prefix_or_id) else ApiKey.prefix == prefix_or_id
    )
    return connection.execute(
        update(ApiKey)
        .where(ApiKey.tenant == tenant, same_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
    ).rowcount


def _is_uuid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True
