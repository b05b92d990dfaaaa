"""Generations: which workers have been started with the settings that are read only at a start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import SecretStr

from emberq.config.runtime import Applies, is_host_wide, settings_that_apply
from emberq.config.snapshot import Snapshot

__all__ = ["GenerationVersions", "generation_key"]


def generation_key(snapshot: Snapshot) -> str:
    """Return a name that changes exactly when workers must be replaced to apply the snapshot.

    It covers the settings declared as `new_generation`: everybody's values, and those of tenants whose
    own value differs, where a tenant can have one. It is a digest, so it may be logged.
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


class GenerationVersions:
    """Which configuration version the workers of each generation really apply.

    A worker applies every newer version as long as its generation's key is that version's, because its
    horse reads all other settings at each claim. Otherwise it stays at the last version that had its key.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        """Begin with the snapshot of the first generation."""
        self._newest = ""
        self._versions: dict[str, int] = {}
        self.advance(snapshot)

    def advance(self, snapshot: Snapshot) -> bool:
        """Note the host's newest snapshot; returns whether it needs another generation than the last."""
        before, self._newest = self._newest, generation_key(snapshot)
        # With a value that cannot be read no version is really applied.
        self._versions[self._newest] = 0 if snapshot.unreadable else snapshot.version
        return self._newest != before

    def versions(self, keys: Iterable[str]) -> list[int]:
        """Return the version that workers of each generation apply, by its key; 0 if that is unknown."""
        return [self._versions.get(key, 0) for key in keys]
