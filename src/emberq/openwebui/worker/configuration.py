"""Open WebUI's configuration as jobs get it: read once, refreshed, pinned for the length of a job.

Open WebUI reads its `config` table whenever it wants a value. In a worker it is given a snapshot instead,
by its own switch for values that are not kept in the database; a tenant's settings are laid over it.
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

__all__ = ["OpenWebUIConfiguration", "PinnedConfiguration"]

log = get_logger(__name__)

#: Seconds that a snapshot is used before the table is read again: changes reach jobs as soon.
_FRESH_SECONDS = 1.0
#: Ends of the names of values that nobody may see.
_SECRET_ENDS = ("api_key", "password", "token", "secret", ".key")


@dataclass(frozen=True, slots=True)
class PinnedConfiguration:
    """All values as they were at one moment.

    Attributes:
        version: A digest of the values; may be logged.
        values: By Open WebUI's dotted keys.
    """

    version: str
    values: Mapping[str, Any]

    def with_changes(self, changes: Mapping[str, Any]) -> PinnedConfiguration:
        """Return a copy with other values."""
        return PinnedConfiguration(self.version, MappingProxyType({**self.values, **changes}))

    def secrets(self) -> set[str]:
        """Return the values that must not appear in what a person is told."""
        return {
            value
            for key, value in self.values.items()
            if isinstance(value, str) and len(value) > 3 and key.endswith(_SECRET_ENDS)  # noqa: PLR2004 - "none"
        }


class OpenWebUIConfiguration:
    """Keeps one snapshot per process and reads it again when it is a second old."""

    def __init__(self, open_webui: InstalledOpenWebUI) -> None:
        """Take the defaults, which come from the environment, as they are before any job."""
        self._open_webui = open_webui
        self._defaults = dict(open_webui.Config.DEFAULTS)
        self._is_persistent = bool(open_webui.Config.PERSISTENT_ENABLED)
        self._is_oauth_persistent = bool(open_webui.Config.OAUTH_PERSISTENT_ENABLED)
        self._pinned: PinnedConfiguration | None = None
        self._read_at = 0.0
        #: How often a changed configuration was taken over.
        self.builds = 0

    def get(self) -> PinnedConfiguration:
        """Return the configuration, at most a second old.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If it must be read, and the database stays away.
        """
        if self._pinned is None or time.monotonic() - self._read_at > _FRESH_SECONDS:
            values = {**self._defaults, **self._stored()}
            self._read_at = time.monotonic()
            version = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[
                :12
            ]
            if self._pinned is None or self._pinned.version != version:
                self._pinned = PinnedConfiguration(version, MappingProxyType(values))
                self.builds += 1
                log.info("openwebui_configuration_read", version=version, keys=len(values))
        return self._pinned

    @contextlib.contextmanager
    def pinned(self, configuration: PinnedConfiguration) -> Iterator[None]:
        """Have everything of Open WebUI read these values, and no others, for the length of the block."""
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
