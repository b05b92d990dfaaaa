"""`/settings`: the run-time settings, their history, and who applies them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, SecretStr

from emberq.api.auth import Admin, ServicesDep
from emberq.config.runtime import RuntimeSettings, applies, is_secret, setting_fields
from emberq.config.snapshot import Snapshot, get_worker_config
from emberq.errors import SettingInvalid
from emberq.store.leases import list_hosts
from emberq.store.settings import EVERYBODY, list_changes, set_setting, unset_setting

__all__ = ["router"]

router = APIRouter(prefix="/settings", tags=["settings"])


class SettingOut(BaseModel):
    """A setting; a secret's value is never shown."""

    key: str
    value: Any
    default: Any
    description: str
    applies: str
    secret: bool
    changed: bool


class SettingsOut(BaseModel):
    """All settings at one version."""

    version: int
    items: list[SettingOut]


class ValueIn(BaseModel):
    """A new value."""

    value: Any


class ChangeOut(BaseModel):
    """One change; secrets are shown as `***`."""

    version: int
    tenant: str
    key: str
    old: Any
    new: Any
    changed_by: str
    changed_at: datetime


class HistoryOut(BaseModel):
    """The latest changes, newest first."""

    items: list[ChangeOut]


class StatusOut(BaseModel):
    """How far the newest settings have come: applied by `applied` of `workers` workers."""

    version: int
    applied: int
    workers: int


def _show(key: str, snapshot: Snapshot) -> SettingOut:
    if key not in RuntimeSettings.model_fields:
        raise SettingInvalid(f"There is no setting named {key!r}.")
    field = setting_fields()[key]
    value, default = getattr(snapshot.settings, key), field.default
    return SettingOut(
        key=key,
        value=_visible(value),
        default=_visible(default),
        description=field.description or "",
        applies=applies(key),
        secret=is_secret(key),
        changed=value != default,
    )


def _visible(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    return value


@router.get("")
def list_all(_caller: Admin, services: ServicesDep) -> SettingsOut:
    """List all settings."""
    snapshot = services.load_snapshot()
    return SettingsOut(version=snapshot.version, items=[_show(key, snapshot) for key in setting_fields()])


@router.get("/status")
def status(_caller: Admin, services: ServicesDep) -> StatusOut:
    """Tell how many workers apply the newest settings."""
    version = services.load_snapshot().version
    with services.database.transaction() as connection:
        hosts = [host for host in list_hosts(connection) if host["alive"]]
    return StatusOut(
        version=version,
        applied=sum(host["workers"] for host in hosts if host["config_version"] >= version),
        workers=sum(host["workers"] for host in hosts),
    )


@router.get("/history")
def history(
    _caller: Admin, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> HistoryOut:
    """List the latest changes."""
    with services.database.transaction() as connection:
        rows = list_changes(connection, limit=limit)
    return HistoryOut(
        items=[ChangeOut(**{**row, "old": _shown(row["old"]), "new": _shown(row["new"])}) for row in rows]
    )


def _shown(stored: dict[str, Any] | None) -> Any:
    if stored is None:
        return None
    return "***" if "sealed" in stored else stored["value"]


@router.get("/{key}")
def show(key: str, _caller: Admin, services: ServicesDep) -> SettingOut:
    """Show one setting."""
    return _show(key, services.load_snapshot())


@router.put("/{key}")
def change(key: str, body: ValueIn, caller: Admin, services: ServicesDep) -> SettingOut:
    """Change a setting; a value that is not allowed is refused with the reason and nothing changes."""
    with services.database.transaction() as connection:
        version = set_setting(
            connection, services.sealer, key, body.value, tenant=EVERYBODY, changed_by=caller.tenant
        )
    return _show(key, get_worker_config(version=version))


@router.delete("/{key}")
def unset(key: str, caller: Admin, services: ServicesDep) -> SettingOut:
    """Return a setting to its default."""
    with services.database.transaction() as connection:
        version = unset_setting(connection, key, tenant=EVERYBODY, changed_by=caller.tenant)
    return _show(key, get_worker_config(version=version))
