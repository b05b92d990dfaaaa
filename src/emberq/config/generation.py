"""Generations: which workers have been started with the settings that are read only at a start."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import SecretStr

from emberq.config.runtime import Applies, is_host_wide, settings_that_apply
from emberq.config.snapshot import Snapshot

__all__ = ["SlotVersions", "generation_key"]


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


def _applied(snapshot: Snapshot) -> int:
    """Return the version whose settings a snapshot really holds; 0 if some of them cannot be read."""
    return 0 if snapshot.unreadable else snapshot.version


class SlotVersions:
    """Which configuration version each worker slot of a host really applies.

    A slot applies every newer version as long as its generation's key is the newest one's, because its
    horses read all other settings at each claim. Otherwise it stays at the last version that had its key.

    Invariant: a slot's version is one whose generation key is the key the slot was started under.
    """

    def __init__(self, slots: int, snapshot: Snapshot) -> None:
        """Note that `slots` slots, numbered from 1, start under a snapshot."""
        self._newest = snapshot
        self._slots: dict[int, tuple[str, int]] = {}
        for slot in range(1, slots + 1):
            self.started(slot, snapshot)

    def started(self, slot: int, snapshot: Snapshot) -> None:
        """Note that a slot now runs in a generation preloaded under the snapshot."""
        self._slots[slot] = (generation_key(snapshot), _applied(snapshot))
        self.advance(self._newest)

    def advance(self, snapshot: Snapshot) -> None:
        """Note the newest snapshot of the host."""
        self._newest = snapshot
        newest = generation_key(snapshot)
        for slot, (key, _) in self._slots.items():
            if key == newest:
                self._slots[slot] = (key, _applied(snapshot))

    def needs_new_generation(self, slot: int) -> bool:
        """Tell whether the slot must be replaced to apply the newest snapshot."""
        return self._slots[slot][0] != generation_key(self._newest)

    def versions(self) -> list[int]:
        """Return the version each slot applies, in the order of the slots."""
        return [self._slots[slot][1] for slot in sorted(self._slots)]
