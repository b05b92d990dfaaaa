"""`/settings`: the run-time settings, their history, and the workers that apply them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import Connection

from emberq.api.auth import Admin, ServicesDep
from emberq.api.types import JsonValue, Text
from emberq.config.current import get_config_cache
from emberq.config.runtime import (
    ALL_TENANTS,
    RuntimeSettings,
    applies,
    is_host_wide,
    is_secret,
    require_setting,
)
from emberq.config.snapshot import Snapshot, Unreadable
from emberq.errors import SettingInvalid
from emberq.store.admin.changes import change_settings, roll_back
from emberq.store.admin.rollout import applied_by_hosts
from emberq.store.admin.settings import list_changes
from emberq.store.services import Services

router = APIRouter(prefix="/settings", tags=["settings"])

#: The tenant whose own values are meant; the values for all tenants if left out.
Tenant = Annotated[
    Text,
    Query(max_length=200, description="A tenant, for its own values; all tenants if left out."),
]


class SettingOut(BaseModel):
    """A setting; a secret's value is never shown."""

    key: str
    value: Any
    default: Any
    description: str
    applies: str
    host_wide: bool
    secret: bool
    changed: bool
    source: Literal["default", "everybody", "tenant"]
    version: int


class UnreadableOut(BaseModel):
    """A stored value that cannot be used, and why."""

    code: str = SettingInvalid.code
    key: str
    tenant: str
    reason: str


class SettingsOut(BaseModel):
    """All settings, at one version."""

    version: int
    items: list[SettingOut]
    unreadable: list[UnreadableOut]


class ValueIn(BaseModel):
    """A new value."""

    value: JsonValue


class ChangesIn(BaseModel):
    """Several changes, which are validated and made together."""

    values: dict[Text, JsonValue] = Field(default_factory=dict, description="New values by setting.")
    unset: list[Text] = Field(
        max_length=1000, default_factory=list, description="Settings that return to their default."
    )


class RollbackIn(BaseModel):
    """The version to return to; 0 stands for all defaults."""

    version: int = Field(ge=0, lt=1 << 63)


class ChangeOut(BaseModel):
    """One changed setting; secrets are shown as `***`."""

    version: int
    tenant: str
    key: str
    old: Any
    new: Any
    changed_by: str
    note: str | None
    changed_at: datetime


class HistoryOut(BaseModel):
    """The latest changes, newest first."""

    items: list[ChangeOut]


class HostStatusOut(BaseModel):
    """How many workers of one host apply the newest settings."""

    name: str
    applied: int
    workers: int
    version: int
    pushed: bool
    unreadable: list[UnreadableOut]


class StatusOut(BaseModel):
    """How many workers apply the newest settings: `applied` of `workers`."""

    version: int
    applied: int
    workers: int
    hosts: list[HostStatusOut]
    unreadable: list[UnreadableOut]


def _show(key: str, snapshot: Snapshot, tenant: str) -> SettingOut:
    require_setting(key)
    field = RuntimeSettings.model_fields[key]
    value, default = getattr(snapshot.for_tenant(tenant), key), field.default
    if key in snapshot.overrides.get(tenant, {}):
        source: Literal["default", "everybody", "tenant"] = "tenant"
    else:
        source = "everybody" if key in snapshot.settings.model_fields_set else "default"
    return SettingOut(
        key=key,
        value=_visible(value),
        default=_visible(default),
        description=field.description or "",
        applies=applies(key),
        host_wide=is_host_wide(key),
        secret=is_secret(key),
        changed=value != default,
        source=source,
        version=snapshot.version,
    )


def _show_all(snapshot: Snapshot, tenant: str) -> SettingsOut:
    return SettingsOut(
        version=snapshot.version,
        items=[_show(key, snapshot, tenant) for key in RuntimeSettings.model_fields],
        unreadable=_show_unreadable(snapshot.unreadable),
    )


def _show_unreadable(found: Iterable[Unreadable]) -> list[UnreadableOut]:
    return [UnreadableOut(**dataclasses.asdict(one)) for one in found]


def _visible(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    return value


def _changed(services: Services, change: Callable[[Connection], int]) -> Snapshot:
    """Make a change and return the new settings; this process applies them from the next request on."""
    with services.database.system_transaction() as connection:
        version = change(connection)
    get_config_cache().newest.announce(version)
    return services.load_snapshot(version)


@router.get("")
def list_all(_caller: Admin, services: ServicesDep, tenant: Tenant = ALL_TENANTS) -> SettingsOut:
    """List all settings."""
    return _show_all(services.load_snapshot(), tenant)


@router.put("")
def change_several(
    body: ChangesIn, caller: Admin, services: ServicesDep, tenant: Tenant = ALL_TENANTS
) -> SettingsOut:
    """Change several settings in one new version; if one is refused, none is changed."""

    def change(connection: Connection) -> int:
        return change_settings(
            connection,
            services.sealer,
            body.values,
            unset=body.unset,
            tenant=tenant,
            changed_by=caller.actor,
        )

    return _show_all(_changed(services, change), tenant)


@router.delete("")
def unset_all(caller: Admin, services: ServicesDep, tenant: Tenant = ALL_TENANTS) -> SettingsOut:
    """Reset all settings to their defaults, or a tenant's to the values for all tenants."""
    return change_several(ChangesIn(unset=list(RuntimeSettings.model_fields)), caller, services, tenant)


@router.get("/status")
def status(_caller: Admin, services: ServicesDep) -> StatusOut:
    """Show how many workers apply the newest settings, and which hosts cannot use which values."""
    snapshot = services.load_snapshot()
    with services.database.system_transaction() as connection:
        hosts = applied_by_hosts(connection, snapshot.version)
    return StatusOut(
        version=snapshot.version,
        applied=sum(host.applied for host in hosts),
        workers=sum(host.workers for host in hosts),
        hosts=[
            HostStatusOut(
                name=host.name,
                applied=host.applied,
                workers=host.workers,
                version=host.version,
                pushed=host.is_pushed,
                unreadable=_show_unreadable(host.unreadable),
            )
            for host in hosts
        ],
        unreadable=_show_unreadable(snapshot.unreadable),
    )


@router.get("/history")
def history(
    _caller: Admin, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> HistoryOut:
    """List the latest changes, newest first."""
    with services.database.system_transaction() as connection:
        rows = list_changes(connection, limit=limit)
    return HistoryOut(
        items=[ChangeOut(**{**row, "old": _shown(row["old"]), "new": _shown(row["new"])}) for row in rows]
    )


def _shown(stored: dict[str, Any] | None) -> Any:
    if stored is None:
        return None
    return "***" if "sealed" in stored else stored["value"]


@router.post("/rollback")
def rollback(body: RollbackIn, caller: Admin, services: ServicesDep) -> SettingsOut:
    """Restore all settings of all tenants to an earlier version, as a new version."""

    def change(connection: Connection) -> int:
        return roll_back(connection, services.sealer, body.version, changed_by=caller.actor)

    return _show_all(_changed(services, change), ALL_TENANTS)


@router.get("/{key}")
def show(key: Text, _caller: Admin, services: ServicesDep, tenant: Tenant = ALL_TENANTS) -> SettingOut:
    """Show one setting."""
    return _show(key, services.load_snapshot(), tenant)


@router.put("/{key}")
def change(
    key: Text, body: ValueIn, caller: Admin, services: ServicesDep, tenant: Tenant = ALL_TENANTS
) -> SettingOut:
    """Change one setting; an invalid value is refused with the reason."""
    change_several(ChangesIn(values={key: body.value}), caller, services, tenant)
    return show(key, caller, services, tenant)


@router.delete("/{key}")
def unset(key: Text, caller: Admin, services: ServicesDep, tenant: Tenant = ALL_TENANTS) -> SettingOut:
    """Reset a setting to its default, or a tenant's to the value for all tenants."""
    change_several(ChangesIn(unset=[key]), caller, services, tenant)
    return show(key, caller, services, tenant)
