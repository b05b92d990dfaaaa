"""Restart versions: which workers must be replaced before a changed setting is in force."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import SecretStr

from emberq.config.runtime import Applies, is_host_wide, settings_that_apply
from emberq.config.snapshot import Snapshot


def restart_version(snapshot: Snapshot) -> str:
    """Return a digest of the settings that workers read only at their start.

    It changes exactly when workers must be replaced to apply the snapshot. It covers the settings declared
    as `new_generation`: the values for all tenants, and the values of single tenants that differ from them.
    It may be logged: secrets cannot be read from it.
    """
    keys = settings_that_apply(Applies.NEW_GENERATION)
    common = {key: _plain(getattr(snapshot.settings, key)) for key in keys}
    differing = {
        tenant: changed
        for tenant, own in snapshot.overrides.items()
        if (
            changed := {
                key: _plain(own[key])
                for key in keys
                if key in own and not is_host_wide(key) and _plain(own[key]) != common[key]
            }
        )
    }
    text = json.dumps([common, differing], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


class AppliedVersions:
    """The configuration version that the workers of each restart version apply.

    A worker applies every newer version that has its restart version, because its horse reads all other
    settings at each claim. Otherwise it stays at the last version that had its restart version.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        """Begin with the snapshot that the first workers are started with."""
        self._newest = ""
        self._versions: dict[str, int] = {}
        self.advance(snapshot)

    def advance(self, snapshot: Snapshot) -> bool:
        """Note the host's newest snapshot; returns whether workers must be replaced to apply it."""
        before, self._newest = self._newest, restart_version(snapshot)
        # A snapshot with an unreadable value does not count as applied.
        self._versions[self._newest] = 0 if snapshot.unreadable else snapshot.version
        return self._newest != before

    def of_workers(self, restart_versions: Iterable[str]) -> list[int]:
        """Return the configuration version that each worker applies; 0 for an unknown restart version.

        Args:
            restart_versions: The restart version that each worker was started with.
        """
        return [self._versions.get(one, 0) for one in restart_versions]
