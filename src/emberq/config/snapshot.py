"""Versioned, immutable configuration snapshots, as jobs get them."""

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
        key: The setting; `""` if it is a combination.
        tenant: Whose value it is; `""` for everybody's.
        reason: Why, without the value.
    """

    key: str
    tenant: str
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All settings as they were at one version.

    Attributes:
        version: Grows by one with every change; 0 before the first.
        settings: The settings that hold for everybody.
        overrides: Values that single tenants changed, by tenant.
        unreadable: Stored values that could not be used; their defaults stand in for them.
    """

    version: int
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    unreadable: tuple[Unreadable, ...] = ()

    def for_tenant(self, tenant: str) -> RuntimeSettings:
        """Return the settings in force for a tenant."""
        own = self.overrides.get(tenant)
        return self.settings.model_copy(update=dict(own)) if own else self.settings
