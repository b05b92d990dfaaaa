"""Snapshots: all settings at one version, immutable, assembled from stored values and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from emberq.config.runtime import ALL_TENANTS, RuntimeSettings
from emberq.errors import SettingInvalid


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored value that this process cannot use.

    Attributes:
        key: The setting; `""` for a combination of several.
        tenant: The tenant that has the value; `""` for a value for all tenants.
        reason: Why the value cannot be used; does not contain the value.
    """

    key: str
    tenant: str
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All settings as they were at one version.

    Attributes:
        version: 0 before the first change; each change adds one.
        settings: The settings for all tenants.
        overrides: By tenant, the values that are set for this tenant alone.
        unreadable: Stored values that could not be used; the settings have their defaults instead.
    """

    version: int
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    unreadable: tuple[Unreadable, ...] = ()

    def for_tenant(self, tenant: str) -> RuntimeSettings:
        """Return the settings in force for a tenant."""
        own = self.overrides.get(tenant)
        return self.settings.model_copy(update=dict(own)) if own else self.settings


def assemble(
    version: int, values: Mapping[str, Mapping[str, Any]], *, unreadable: Collection[Unreadable] = ()
) -> Snapshot:
    """Build a snapshot from the values for all tenants and those of single tenants.

    A value that is not allowed is left out and listed in the snapshot's `unreadable`. If a combination of
    values is not allowed, all values of its tenant are left out.

    Args:
        version: The configuration's version.
        values: By tenant and setting; numbers and booleans may be text.
        unreadable: Stored values that could not be read, to be listed as well.
    """
    found = list(unreadable)
    settings, _ = _view({}, values.get(ALL_TENANTS, {}), ALL_TENANTS, found)
    common = {key: getattr(settings, key) for key in settings.model_fields_set}
    overrides = {}
    for tenant in sorted(values):
        if tenant == ALL_TENANTS:
            continue
        view, own = _view(common, values[tenant], tenant, found)
        if own:
            overrides[tenant] = MappingProxyType({key: getattr(view, key) for key in own})
    return Snapshot(version, settings, MappingProxyType(overrides), tuple(found))


def _view(
    common: Mapping[str, Any], own: Mapping[str, Any], tenant: str, found: list[Unreadable]
) -> tuple[RuntimeSettings, Mapping[str, Any]]:
    """Return the settings in force for a tenant, and its own values that are allowed."""
    try:
        return RuntimeSettings.model_validate({**common, **own}), own
    except ValidationError as exc:
        reasons = _why_invalid(exc)
    found.extend(Unreadable(key, tenant, reason) for key, reason in reasons.items())
    usable = {} if "" in reasons else {key: value for key, value in own.items() if key not in reasons}
    return _view(common, usable, tenant, found)


def _why_invalid(error: ValidationError) -> dict[str, str]:
    """Return the reasons of a failed check, by setting; the key `""` stands for a combination."""
    reasons: dict[str, str] = {}
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        key = str(one["loc"][0]) if one["loc"] else ""
        reasons[key] = one["msg"].removeprefix("Value error, ")
    return reasons


def refuse_invalid(before: Snapshot, after: Snapshot, *, changed: Collection[tuple[str, str]]) -> None:
    """Refuse a change after which a value or a combination is not allowed.

    Values that were unreadable before, and that the change does not touch, are no reason.

    Args:
        before: The settings as they are.
        after: The settings as they would be.
        changed: Tenant and key of each changed setting.

    Raises:
        SettingInvalid: The message names each setting, the reason, and the tenant.
    """
    tenants = {tenant for tenant, _ in changed}
    reasons = [
        _sentence(one)
        for one in after.unreadable
        if one not in before.unreadable
        or (one.tenant, one.key) in changed
        or (not one.key and one.tenant in tenants)
    ]
    if reasons:
        raise SettingInvalid(" ".join(reasons))


def _sentence(one: Unreadable) -> str:
    what = f"{one.key}: {one.reason}." if one.key else f"{one.reason}."
    return f"For the tenant {one.tenant!r}: {what}" if one.tenant else what
