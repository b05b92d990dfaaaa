"""Make a snapshot of stored values, and refuse a change that would make an invalid one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from emberq.config.runtime import EVERYBODY, RuntimeSettings
from emberq.config.snapshot import Snapshot, Unreadable
from emberq.errors import SettingInvalid

__all__ = ["assemble", "refuse_invalid"]


def assemble(
    version: int, values: Mapping[str, Mapping[str, Any]], *, unreadable: Collection[Unreadable] = ()
) -> Snapshot:
    """Check everybody's values and each tenant's view, and make them one snapshot.

    A value that is not allowed is left out and named in `unreadable`; of a combination that is not
    allowed, all of its tenant's values are.

    Args:
        version: The configuration's version.
        values: By tenant and setting; numbers and booleans may come as text.
        unreadable: What could not even be read.
    """
    found = list(unreadable)
    settings, _ = _view({}, values.get(EVERYBODY, {}), EVERYBODY, found)
    common = {key: getattr(settings, key) for key in settings.model_fields_set}
    overrides = {}
    for tenant in sorted(values):
        if tenant == EVERYBODY:
            continue
        view, own = _view(common, values[tenant], tenant, found)
        if own:
            overrides[tenant] = MappingProxyType({key: getattr(view, key) for key in own})
    return Snapshot(version, settings, MappingProxyType(overrides), tuple(found))


def _view(
    common: Mapping[str, Any], own: Mapping[str, Any], tenant: str, found: list[Unreadable]
) -> tuple[RuntimeSettings, Mapping[str, Any]]:
    """Return the settings in force for a tenant, and those of its own values that are usable."""
    try:
        return RuntimeSettings.model_validate({**common, **own}), own
    except ValidationError as exc:
        reasons = _why_invalid(exc)
    found.extend(Unreadable(key, tenant, reason) for key, reason in reasons.items())
    usable = {} if "" in reasons else {key: value for key, value in own.items() if key not in reasons}
    return _view(common, usable, tenant, found)


def _why_invalid(error: ValidationError) -> dict[str, str]:
    """Return the reasons of a failed check, by setting; under `""` what is wrong with a combination."""
    reasons: dict[str, str] = {}
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        key = str(one["loc"][0]) if one["loc"] else ""
        reasons[key] = one["msg"].removeprefix("Value error, ")
    return reasons


def refuse_invalid(before: Snapshot, after: Snapshot, *, changed: Collection[tuple[str, str]]) -> None:
    """Refuse a change after which a value or a combination is not allowed.

    What was unusable before the change, and is none of its doing, does not stand in its way.

    Args:
        before: The settings as they are.
        after: The settings as they would be.
        changed: Tenant and key of each changed setting.

    Raises:
        SettingInvalid: Says what, why, and for which tenant.
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
