"""Changes of run-time settings: checked, stored as one version each, and pushed to every process."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, delete, func, insert, text
from sqlalchemy.dialects.postgresql import insert as pg_insert

from emberq.config.runtime import ALL_TENANTS, require_setting
from emberq.config.snapshot import assemble, refuse_invalid
from emberq.store.admin.audit import Action, record
from emberq.store.admin.secrets import Sealer
from emberq.store.admin.settings import (
    SETTINGS_CHANNEL,
    Stored,
    make_snapshot,
    read_stored,
    read_stored_at,
    unseal_values,
)
from emberq.store.schema.admin_tables import Setting, SettingChange

#: Advisory lock of changes: one at a time, so that each change is checked against the settings it will
#: join, and versions are committed in the order of their numbers.
_LOCK = 0x656D62657271


def change_settings(
    connection: Connection,
    sealer: Sealer,
    values: Mapping[str, Any],
    *,
    unset: Collection[str] = (),
    tenant: str = ALL_TENANTS,
    changed_by: str,
) -> int:
    """Check settings, each by itself and together with all others, and store them as one version.

    Args:
        connection: A transaction; its commit puts the change into force and pushes it to every process.
        sealer: Seals secrets.
        values: New values by setting; numbers and booleans may be text.
        unset: Settings that return to their default.
        tenant: The tenant; by default the settings of all tenants.
        changed_by: The author, for the history.

    Returns:
        The configuration's version; the same as before if nothing changed.

    Raises:
        SettingInvalid: If a setting does not exist, or if the change makes a value or a combination
            invalid, for any tenant; nothing is stored then.
    """
    for key in (*values, *unset):
        require_setting(key)
    version, stored = _lock_and_read(connection)
    found, unreadable = unseal_values(stored, sealer)
    before = assemble(version, found, unreadable=unreadable)
    changed = {(tenant, key) for key in (*values, *unset)}
    wanted = {**found, tenant: _changed(found.get(tenant, {}), values, unset)}
    still_unreadable = [one for one in unreadable if (one.tenant, one.key) not in changed]
    after = assemble(version + 1, wanted, unreadable=still_unreadable)
    refuse_invalid(before, after, changed=changed)
    target = {place: one for place, one in stored.items() if place not in changed}
    for key in values:
        new = getattr(after.for_tenant(tenant), key)
        is_same = key in found.get(tenant, {}) and getattr(before.for_tenant(tenant), key) == new
        target[tenant, key] = stored[tenant, key] if is_same else _seal(new, sealer)
    return _write(connection, version, stored, target, changed_by=changed_by)


def _changed(own: Mapping[str, Any], values: Mapping[str, Any], unset: Collection[str]) -> dict[str, Any]:
    return {**{key: value for key, value in own.items() if key not in unset}, **values}


def roll_back(connection: Connection, sealer: Sealer, version: int, *, changed_by: str) -> int:
    """Restore the settings of all tenants at a version, as one new version.

    Secrets are restored as they were sealed.

    Args:
        connection: A transaction.
        sealer: Must be able to read the secrets of that version.
        version: The version to return to; 0 stands for all defaults.
        changed_by: The author, for the history.

    Returns:
        The configuration's version; the same as before if nothing was different.

    Raises:
        SettingInvalid: If there is no such version, or its values are no longer valid or readable.
    """
    newest, stored = _lock_and_read(connection)
    target = read_stored_at(connection, version)
    before, after = make_snapshot(newest, stored, sealer), make_snapshot(newest + 1, target, sealer)
    refuse_invalid(before, after, changed=_differing(stored, target))
    return _write(connection, newest, stored, target, changed_by=changed_by, note=f"rollback to {version}")


def lock_changes(connection: Connection) -> None:
    """Let other changes of settings wait for the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _lock_and_read(connection: Connection) -> tuple[int, Stored]:
    lock_changes(connection)
    return read_stored(connection)


def _seal(value: Any, sealer: Sealer) -> dict[str, Any]:
    if isinstance(value, SecretStr):
        return {"sealed": sealer.seal(value.get_secret_value())}
    return {"value": value}


def _differing(before: Stored, after: Stored) -> set[tuple[str, str]]:
    return {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}


def _write(
    connection: Connection,
    version: int,
    before: Stored,
    after: Stored,
    *,
    changed_by: str,
    note: str | None = None,
) -> int:
    """Store the differences, their history, and the notice that is sent with the commit."""
    differing = sorted(_differing(before, after))
    if not differing:
        return version
    for tenant, key in differing:
        new = after.get((tenant, key))
        if new is None:
            connection.execute(delete(Setting).where(Setting.tenant == tenant, Setting.key == key))
        else:
            statement = pg_insert(Setting).values(tenant=tenant, key=key, value=new)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[Setting.tenant, Setting.key],
                    set_={"value": statement.excluded.value, "updated_at": func.now()},
                )
            )
    connection.execute(
        insert(SettingChange),
        [
            {
                "version": version + 1,
                "tenant": tenant,
                "key": key,
                "old": before.get((tenant, key)),
                "new": after.get((tenant, key)),
                "changed_by": changed_by,
                "note": note,
            }
            for tenant, key in differing
        ],
    )
    for tenant, key in differing:
        is_set = (tenant, key) in after
        record(
            connection,
            actor=changed_by,
            action=Action.SETTING_SET if is_set else Action.SETTING_UNSET,
            target=key,
            tenant=tenant,
            version=version + 1,
        )
    connection.execute(
        text("SELECT pg_notify(:channel, :version)"),
        {"channel": SETTINGS_CHANNEL, "version": str(version + 1)},
    )
    return version + 1
