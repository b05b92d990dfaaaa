"""API keys: shown once, stored as a hash, valid until they are revoked or expire.

The API trusts a key for half a second, so that a change is in force that soon.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from emberq.errors import Forbidden, InvalidRequest, KeyNotFound, Unauthorized
from emberq.store.admin.audit import COMMAND_LINE, Action, record
from emberq.store.admin.secrets import hash_api_key, new_api_key
from emberq.store.schema.admin_tables import ApiKey

#: The tenant of the first API key; an installation that names no tenants uses it.
DEFAULT_TENANT = "default"
#: The scopes of keys: reading, changing documents, and changing settings and keys.
ALL_SCOPES = ("read", "write", "admin")
#: The name of the first API key.
FIRST_KEY = "first key"
#: Longest validity of a key, and longest grace of a rotated one, in seconds.
LONGEST_VALIDITY_SECONDS = 10 * 366 * 86400.0
_DOCUMENT_SCOPES = ("read", "write")
#: Characters of a key that listings show. The first three are the same in every key.
_PREFIX_CHARACTERS = 8
#: Seconds for which a key's last use need not be written again.
_LAST_USE_SECONDS = 60.0

_columns = (
    ApiKey.id,
    ApiKey.tenant,
    ApiKey.name,
    ApiKey.prefix,
    ApiKey.scopes,
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.last_used_at,
    ApiKey.revoked_at,
)


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """What a valid key stands for.

    Attributes:
        tenant: Its tenant.
        scopes: What it allows.
        key_id: Its id.
        name: Its purpose.
        prefix: Its first characters.
        expires_at: When it stops to be valid; never if None.
        is_use_due: Whether `note_use` has to be called for it.
    """

    tenant: str
    scopes: frozenset[str]
    key_id: uuid.UUID
    name: str
    prefix: str
    expires_at: datetime | None
    is_use_due: bool


def create_key(
    connection: Connection,
    *,
    name: str,
    tenant: str = DEFAULT_TENANT,
    scopes: Sequence[str] | None = None,
    valid_seconds: float | None = None,
    actor: str = COMMAND_LINE,
) -> str:
    """Make an API key and return it; it cannot be shown again.

    Args:
        connection: The transaction.
        name: The purpose of the key.
        tenant: The tenant of the key.
        scopes: What the key allows. By default all scopes for the first tenant, and `read` and `write` for
            others: `admin` is valid for all tenants, so it must be asked for.
        valid_seconds: How long it is valid; until it is revoked if left out.
        actor: Who asked for it, for the audit log.

    Raises:
        Forbidden: If a scope is not one of `ALL_SCOPES`.
        InvalidRequest: If it would be valid for no time, or for longer than ten years.
    """
    scopes = scopes or (ALL_SCOPES if tenant == DEFAULT_TENANT else _DOCUMENT_SCOPES)
    unknown = set(scopes) - set(ALL_SCOPES)
    if unknown:
        raise Forbidden(
            f"There is no scope {', '.join(sorted(unknown))}.", hint=f"Scopes: {', '.join(ALL_SCOPES)}."
        )
    key = _insert(connection, name=name, tenant=tenant, scopes=scopes, valid_seconds=valid_seconds)
    record(
        connection,
        actor=actor,
        action=Action.KEY_CREATE,
        target=_label(name, key[:_PREFIX_CHARACTERS]),
        tenant=tenant,
        scopes=list(scopes),
        valid_seconds=valid_seconds,
    )
    return key


def ensure_first_key(connection: Connection) -> str | None:
    """Make the first API key of an installation and return it; nothing if there is a key."""
    if connection.execute(select(func.count()).select_from(ApiKey)).scalar_one():
        return None
    return create_key(connection, name=FIRST_KEY)


def authenticate(connection: Connection, key: str) -> KeyOwner:
    """Return the owner of a key.

    Raises:
        Unauthorized: If the key is unknown, revoked or expired.
    """
    is_due = or_(
        ApiKey.last_used_at.is_(None),
        ApiKey.last_used_at < func.now() - timedelta(seconds=_LAST_USE_SECONDS),
    )
    found = connection.execute(
        select(
            ApiKey.tenant,
            ApiKey.scopes,
            ApiKey.id,
            ApiKey.name,
            ApiKey.prefix,
            ApiKey.expires_at,
            is_due.label("is_use_due"),
        ).where(ApiKey.digest == hash_api_key(key), _is_valid())
    ).one_or_none()
    if found is None:
        raise Unauthorized
    return KeyOwner(
        tenant=found.tenant,
        scopes=frozenset(found.scopes),
        key_id=found.id,
        name=found.name,
        prefix=found.prefix,
        expires_at=found.expires_at,
        is_use_due=found.is_use_due,
    )


def note_use(connection: Connection, key_id: uuid.UUID) -> None:
    """Write that a key was used now; see `KeyOwner.is_use_due`."""
    connection.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=func.now()))


def list_keys(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Return the keys of a tenant, newest first, without their secret part."""
    rows = connection.execute(
        select(*_columns).where(ApiKey.tenant == tenant).order_by(ApiKey.created_at.desc())
    )
    return [dict(row) for row in rows.mappings()]


def rotate_key(
    connection: Connection,
    tenant: str,
    named: str,
    *,
    grace_seconds: float,
    valid_seconds: float | None = None,
    actor: str = COMMAND_LINE,
) -> str:
    """Make a key in the place of another one and return it; the other one expires after a grace period.

    Args:
        connection: The transaction.
        tenant: The tenant of the key.
        named: The name, prefix or id of a valid key.
        grace_seconds: How long the other one is still valid; 0 ends it at once.
        valid_seconds: How long the new one is valid; as long as the other one was meant to be if left out.
        actor: Who asked for it, for the audit log.

    Raises:
        InvalidRequest: If several valid keys have this name, or a length of time is out of range.
        KeyNotFound: If the tenant has no such key.
    """
    old = _find_one(connection, tenant, named)
    if not 0 <= grace_seconds <= LONGEST_VALIDITY_SECONDS:
        raise InvalidRequest("The grace period must be between no time and ten years.")
    if valid_seconds is None and old.expires_at is not None:
        valid_seconds = (old.expires_at - old.created_at).total_seconds()
    key = _insert(connection, name=old.name, tenant=tenant, scopes=old.scopes, valid_seconds=valid_seconds)
    end = func.now() + timedelta(seconds=grace_seconds)
    connection.execute(
        update(ApiKey)
        .where(ApiKey.id == old.id)
        .values(expires_at=func.least(func.coalesce(ApiKey.expires_at, end), end))
    )
    record(
        connection,
        actor=actor,
        action=Action.KEY_ROTATE,
        target=_label(old.name, old.prefix),
        tenant=tenant,
        prefix=key[:_PREFIX_CHARACTERS],
        grace_seconds=grace_seconds,
    )
    return key


def revoke_key(connection: Connection, tenant: str, prefix_or_id: str, *, actor: str = COMMAND_LINE) -> int:
    """Revoke the keys with this id or prefix and return how many there were."""
    revoked = connection.execute(
        update(ApiKey)
        .where(ApiKey.tenant == tenant, _has_id_or_prefix(prefix_or_id), ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey.name, ApiKey.prefix)
    ).all()
    for row in revoked:
        record(
            connection,
            actor=actor,
            action=Action.KEY_REVOKE,
            target=_label(row.name, row.prefix),
            tenant=tenant,
        )
    return len(revoked)


def _insert(
    connection: Connection, *, name: str, tenant: str, scopes: Sequence[str], valid_seconds: float | None
) -> str:
    if valid_seconds is not None and not 0 < valid_seconds <= LONGEST_VALIDITY_SECONDS:
        raise InvalidRequest("A key must be valid for more than no time, and for ten years at most.")
    key = new_api_key()
    connection.execute(
        insert(ApiKey).values(
            id=uuid.uuid4(),
            tenant=tenant,
            name=name,
            prefix=key[:_PREFIX_CHARACTERS],
            digest=hash_api_key(key),
            scopes=list(scopes),
            expires_at=None if valid_seconds is None else func.now() + timedelta(seconds=valid_seconds),
        )
    )
    return key


def _find_one(connection: Connection, tenant: str, named: str) -> Any:
    """Return a tenant's only valid key of this name, prefix or id, locked."""
    found = connection.execute(
        select(*_columns)
        .where(ApiKey.tenant == tenant, or_(ApiKey.name == named, _has_id_or_prefix(named)), _is_valid())
        .with_for_update()
    ).all()
    if not found:
        raise KeyNotFound(f"There is no valid key {named!r}.")
    if len(found) > 1:
        prefixes = ", ".join(sorted(row.prefix for row in found))
        raise InvalidRequest(
            f"{len(found)} valid keys are named {named!r}.", hint=f"Give one by its prefix: {prefixes}."
        )
    return found[0]


def _is_valid() -> ColumnElement[bool]:
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))


def _has_id_or_prefix(given: str) -> ColumnElement[bool]:
    return ApiKey.id == uuid.UUID(given) if _is_uuid(given) else ApiKey.prefix == given


def _is_uuid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def _label(name: str, prefix: str) -> str:
    return f"{name} ({prefix})"
