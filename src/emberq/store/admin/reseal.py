"""Rotation of the secret key: every sealed value is sealed again with the newest key, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from emberq.errors import SettingInvalid
from emberq.store.admin.audit import COMMAND_LINE, Action, record
from emberq.store.admin.changes import lock_changes
from emberq.store.admin.secrets import Sealer
from emberq.store.schema.admin_tables import Setting, SettingChange

#: Most names of unreadable settings in an error.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Resealed:
    """What a rotation did.

    Attributes:
        settings: Secret settings that were sealed again.
        history: Values of the settings' history that were sealed again.
        lost: Values of the history that no key can read; they stay as they are.
    """

    settings: int
    history: int
    lost: int


def reseal(
    connection: Connection, sealer: Sealer, *, progress: Callable[[int], None] = lambda _done: None
) -> Resealed:
    """Seal every secret again with the sealer's newest key.

    Args:
        connection: A transaction for all tenants; changes of settings wait for its end.
        sealer: Its keys must be able to read every secret setting.
        progress: Called with the number of rows that are done.

    Raises:
        SettingInvalid: If a secret setting cannot be read; nothing is changed then.
    """
    lock_changes(connection)
    stored = connection.execute(select(Setting.tenant, Setting.key, Setting.value)).all()
    unreadable = [row for row in stored if _is_sealed(row.value) and not _can_read(sealer, row.value)]
    if unreadable:
        names = ", ".join(f"{row.key} of {row.tenant or 'all tenants'}" for row in unreadable[:_NAMED])
        raise SettingInvalid(
            f"No key can read {len(unreadable)} secret settings ({names}); nothing was changed.",
            hint="Put all keys in use into EMBERQ_SECRET_KEY, the newest first; or set these settings again.",
        )
    done = 0
    for row in stored:
        if _is_sealed(row.value):
            connection.execute(
                update(Setting)
                .where(Setting.tenant == row.tenant, Setting.key == row.key)
                .values(value=_again(sealer, row.value))
            )
            done += 1
            progress(done)
    history, lost = _reseal_history(connection, sealer, lambda rows: progress(done + rows))
    record(
        connection,
        actor=COMMAND_LINE,
        action=Action.SECRET_ROTATE,
        target=f"{done} secret settings",
        history=history,
        lost=lost,
    )
    return Resealed(settings=done, history=history, lost=lost)


def _reseal_history(
    connection: Connection, sealer: Sealer, progress: Callable[[int], None]
) -> tuple[int, int]:
    columns = (SettingChange.version, SettingChange.tenant, SettingChange.key)
    rows = connection.execute(select(*columns, SettingChange.old, SettingChange.new)).all()
    done = lost = 0
    for row in rows:
        changed = {}
        for name in ("old", "new"):
            value = getattr(row, name)
            if not _is_sealed(value):
                continue
            if _can_read(sealer, value):
                changed[name] = _again(sealer, value)
            else:
                lost += 1
        if changed:
            connection.execute(
                update(SettingChange)
                .where(
                    SettingChange.version == row.version,
                    SettingChange.tenant == row.tenant,
                    SettingChange.key == row.key,
                )
                .values(**changed)
            )
            done += len(changed)
            progress(done)
    return done, lost


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and "sealed" in value


def _can_read(sealer: Sealer, value: dict[str, Any]) -> bool:
    try:
        sealer.unseal(value["sealed"])
    except SettingInvalid:
        return False
    return True


def _again(sealer: Sealer, value: dict[str, Any]) -> dict[str, Any]:
    return {"sealed": sealer.seal(sealer.unseal(value["sealed"]))}
