"""Run-time settings in the database: versioned, with history, secrets sealed."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert

from emberq.config.runtime import RuntimeSettings, is_secret, validate_setting
from emberq.config.snapshot import Snapshot
from emberq.store.secrets import Sealer
from emberq.store.tables import Setting, SettingChange

__all__ = ["EVERYBODY", "list_changes", "load_snapshot", "set_setting", "settings_version", "unset_setting"]

#: The tenant column of settings that hold for all.
EVERYBODY = ""
#: Channel of NOTIFY after a change.
_CHANNEL = "emberq_settings"


def load_snapshot(connection: Connection, sealer: Sealer) -> Snapshot:
    """Read all settings as one immutable snapshot.

    Raises:
        SettingInvalid: If a secret was sealed with a key that is not at hand.
    """
    version = settings_version(connection)
    values: dict[str, dict[str, Any]] = {}
    for row in connection.execute(select(Setting.tenant, Setting.key, Setting.value)):
        if row.key in RuntimeSettings.model_fields:
            values.setdefault(row.tenant, {})[row.key] = _plain(row.value, sealer)
    everybody = RuntimeSettings.model_validate(values.pop(EVERYBODY, {}))
    overrides = {tenant: MappingProxyType(own) for tenant, own in values.items()}
    return Snapshot(version=version, settings=everybody, overrides=MappingProxyType(overrides))


def settings_version(connection: Connection) -> int:
    """Return the number of the latest change; 0 before the first."""
    return connection.execute(select(func.coalesce(func.max(SettingChange.version), 0))).scalar_one()


def set_setting(
    connection: Connection, sealer: Sealer, key: str, value: Any, *, tenant: str = EVERYBODY, changed_by: str
) -> int:
    """Check and store one setting and tell every process.

    Returns:
        The new configuration version.

    Raises:
        SettingInvalid: If the setting or the value is not allowed; nothing is stored then.
    """
    checked = validate_setting(key, value, load_snapshot(connection, sealer).for_tenant(tenant))
    stored = {"sealed": sealer.seal(checked)} if is_secret(key) else {"value": checked}
    old = _stored(connection, tenant, key)
    statement = pg_insert(Setting).values(tenant=tenant, key=key, value=stored)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[Setting.tenant, Setting.key],
            set_={"value": statement.excluded.value, "updated_at": func.now()},
        )
    )
    return _record(connection, tenant, key, old=old, new=stored, changed_by=changed_by)


def unset_setting(
    connection: Connection, key: str, *, tenant: str = EVERYBODY, changed_by: str
) -> int | None:
    """Return a setting to its default.

    Returns:
        The new configuration version, nothing if the setting had its default already.

    Raises:
        SettingInvalid: If there is no such setting.
    """
    is_secret(key)
    old = _stored(connection, tenant, key)
    if old is None:
        return None
    connection.execute(delete(Setting).where(Setting.tenant == tenant, Setting.key == key))
    return _record(connection, tenant, key, old=old, new=None, changed_by=changed_by)


def list_changes(connection: Connection, *, limit: int = 100) -> list[RowMapping]:
    """Return the latest changes, newest first; sealed values stay sealed."""
    rows = connection.execute(
        select(*SettingChange.__table__.c).order_by(SettingChange.version.desc()).limit(limit)
    )
    return list(rows.mappings())


def _plain(stored: dict[str, Any], sealer: Sealer) -> Any:
    return SecretStr(sealer.unseal(stored["sealed"])) if "sealed" in stored else stored["value"]


def _stored(connection: Connection, tenant: str, key: str) -> dict[str, Any] | None:
    return connection.execute(
        select(Setting.value).where(Setting.tenant == tenant, Setting.key == key)
    ).scalar_one_or_none()


def _record(
    connection: Connection,
    tenant: str,
    key: str,
    *,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
    changed_by: str,
) -> int:
    version = connection.execute(
        insert(SettingChange)
        .values(tenant=tenant, key=key, old=old, new=new, changed_by=changed_by)
        .returning(SettingChange.version)
    ).scalar_one()
    connection.execute(
        text("SELECT pg_notify(:channel, :version)"), {"channel": _CHANNEL, "version": str(version)}
    )
    return version
