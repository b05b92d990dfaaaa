"""Run-time settings in the database: the newest ones, those of a version, and their history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, RowMapping, and_, func, select, true

from emberq.config.runtime import RuntimeSettings
from emberq.config.snapshot import Snapshot, Unreadable, assemble
from emberq.errors import SettingInvalid
from emberq.store.admin.secrets import Sealer
from emberq.store.schema.admin_tables import Setting, SettingChange

#: Channel of NOTIFY; the payload of a change is its version.
SETTINGS_CHANNEL = "emberq_settings"

#: Stored values by tenant and key: `{"value": …}` or `{"sealed": "…"}`.
Stored = Mapping[tuple[str, str], dict[str, Any]]


def load_snapshot(connection: Connection, sealer: Sealer, version: int | None = None) -> Snapshot:
    """Read all settings as one immutable snapshot.

    Args:
        connection: The transaction.
        sealer: Unseals the secrets; a secret that it cannot unseal has its default and is unreadable.
        version: An earlier version; the newest if left out.

    Raises:
        SettingInvalid: If there is no such version.
    """
    if version is None:
        newest, stored = read_stored(connection)
        return make_snapshot(newest, stored, sealer)
    return make_snapshot(version, read_stored_at(connection, version), sealer)


def make_snapshot(version: int, stored: Stored, sealer: Sealer) -> Snapshot:
    """Unseal, check and freeze stored values; settings unknown to this program are left out."""
    values, unreadable = unseal_values(stored, sealer)
    return assemble(version, values, unreadable=unreadable)


def unseal_values(stored: Stored, sealer: Sealer) -> tuple[dict[str, dict[str, Any]], list[Unreadable]]:
    """Return the values by tenant and key, secrets unsealed but hidden, and the unreadable ones."""
    values: dict[str, dict[str, Any]] = {}
    unreadable = []
    for (tenant, key), one in stored.items():
        if key not in RuntimeSettings.model_fields:
            continue
        try:
            values.setdefault(tenant, {})[key] = _unseal(one, sealer)
        except SettingInvalid as exc:
            unreadable.append(Unreadable(key, tenant, exc.message.rstrip(".")))
    return values, unreadable


def _unseal(stored: object, sealer: Sealer) -> Any:
    match stored:
        case {"sealed": str(sealed)}:
            return SecretStr(sealer.unseal(sealed))
        case {"value": value}:
            return value
    raise SettingInvalid("The stored value has a form that this program does not know.")


def settings_version(connection: Connection) -> int:
    """Return the number of the latest change; 0 before the first."""
    return connection.execute(select(func.coalesce(func.max(SettingChange.version), 0))).scalar_one()


def read_stored(connection: Connection) -> tuple[int, Stored]:
    """Return the newest version and its values, in one statement, so that they are consistent."""
    version = select(func.coalesce(func.max(SettingChange.version), 0).label("version")).subquery()
    rows = connection.execute(
        select(version.c.version, Setting.tenant, Setting.key, Setting.value).select_from(
            version.outerjoin(Setting, true())
        )
    ).all()
    return rows[0].version, {(row.tenant, row.key): row.value for row in rows if row.key is not None}


def read_stored_at(connection: Connection, version: int) -> Stored:
    """Return the values of an earlier version, from the history.

    Raises:
        SettingInvalid: If there is no such version.
    """
    newest = settings_version(connection)
    if not 0 <= version <= newest:
        raise SettingInvalid(
            f"There is no configuration version {version}; the newest is {newest}.",
            hint="`emberq config history` lists the versions; 0 stands for all defaults.",
        )
    last = (
        select(SettingChange.tenant, SettingChange.key, func.max(SettingChange.version).label("version"))
        .where(SettingChange.version <= version)
        .group_by(SettingChange.tenant, SettingChange.key)
        .subquery()
    )
    rows = connection.execute(
        select(SettingChange.tenant, SettingChange.key, SettingChange.new).join(
            last,
            and_(
                SettingChange.tenant == last.c.tenant,
                SettingChange.key == last.c.key,
                SettingChange.version == last.c.version,
            ),
        )
    )
    return {(row.tenant, row.key): row.new for row in rows if row.new is not None}


def list_changes(connection: Connection, *, limit: int = 100) -> list[RowMapping]:
    """Return the latest changes, newest first; sealed values stay sealed."""
    rows = connection.execute(
        select(*SettingChange.__table__.c)
        .order_by(SettingChange.version.desc(), SettingChange.tenant, SettingChange.key)
        .limit(limit)
    )
    return list(rows.mappings())
