"""Open WebUI's configuration for jobs: read from its table, refreshed, and pinned for the length of a job.

Open WebUI reads a value from its `config` table whenever it needs one. In a worker it reads a snapshot
instead: its switch for values outside the database is turned on, and the snapshot becomes its defaults. A
tenant's settings are laid over the snapshot.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import select

from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI
from emberq.openwebui.worker.rows import retry_open_webui
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Age in seconds at which the table is read again; the longest time until a change reaches the next job.
_MAX_AGE_SECONDS = 1.0
#: Suffixes of the keys whose values are secret.
_SECRET_SUFFIXES = ("api_key", "password", "token", "secret", ".key")


@dataclass(frozen=True, slots=True)
class PinnedConfiguration:
    """All values at one moment.

    Attributes:
        version: A digest of the values; not secret.
        values: The values by Open WebUI's dotted keys.
    """

    version: str
    values: Mapping[str, Any]

    def with_changes(self, changes: Mapping[str, Any]) -> PinnedConfiguration:
        """Return a copy with some values replaced."""
        return PinnedConfiguration(self.version, MappingProxyType({**self.values, **changes}))

    def secrets(self) -> set[str]:
        """Return the values that must not appear in messages."""
        return {
            value
            for key, value in self.values.items()
            if isinstance(value, str) and len(value) > 3 and key.endswith(_SECRET_SUFFIXES)  # noqa: PLR2004 - "none"
        }


class OpenWebUIConfiguration:
    """The process's snapshot of the configuration, read again when it is a second old."""

    def __init__(self, open_webui: InstalledOpenWebUI) -> None:
        """Store the defaults from the environment, before a job replaces them."""
        self._open_webui = open_webui
        self._defaults = dict(open_webui.Config.DEFAULTS)
        self._is_persistent = bool(open_webui.Config.PERSISTENT_ENABLED)
        self._is_oauth_persistent = bool(open_webui.Config.OAUTH_PERSISTENT_ENABLED)
        self._pinned: PinnedConfiguration | None = None
        self._read_at = 0.0

    def get(self) -> PinnedConfiguration:
        """Return the configuration, at most a second old.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If it must be read and the database stays away.
        """
        if self._pinned is None or time.monotonic() - self._read_at > _MAX_AGE_SECONDS:
            values = {**self._defaults, **self._stored()}
            self._read_at = time.monotonic()
            digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
            version = digest[:12]
            if self._pinned is None or self._pinned.version != version:
                self._pinned = PinnedConfiguration(version, MappingProxyType(values))
                log.info("openwebui_configuration_read", version=version, keys=len(values))
        return self._pinned

    @contextlib.contextmanager
    def pinned(self, configuration: PinnedConfiguration) -> Iterator[None]:
        """Make Open WebUI read these values and no others, for the length of the block."""
        config = self._open_webui.Config
        config.configure(defaults=dict(configuration.values), enable_persistent=False)
        try:
            yield
        finally:
            config.configure(
                defaults=self._defaults,
                enable_persistent=self._is_persistent,
                enable_oauth_persistent=self._is_oauth_persistent,
            )

    def _stored(self) -> dict[str, Any]:
        if not self._is_persistent:
            return {}
        table = self._open_webui.Config.__table__
        for attempt in retry_open_webui("read_configuration"):
            with attempt, self._open_webui.database.engine.connect() as connection:
                rows = connection.execute(select(table.c.key, table.c.value)).all()
                return {row.key: row.value for row in rows if not row.key.startswith("oauth.")}
        raise AssertionError  # pragma: no cover - the last attempt returns or raises
