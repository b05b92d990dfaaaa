"""Snapshots: all settings at one version, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from emberq.config.runtime import RuntimeSettings

__all__ = ["Snapshot", "Unreadable"]


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
