"""A tenant's own embedding settings, translated from emberq's to Open WebUI's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from emberq.config.current import get_config_cache, get_worker_config
from emberq.config.environment import get_environment
from emberq.config.snapshot import Snapshot
from emberq.errors import SettingInvalid
from emberq.store.admin.settings import settings_version
from emberq.store.services import configure_services, get_services

#: Age in seconds at which the settings' version is read again; no announcements of changes are heard here.
_MAX_AGE_SECONDS = 1.0
#: The setting that a tenant must have of its own.
_KEY = "rag_embedding_api_key"


def configure_tenants() -> bool:
    """Configure emberq's services, if that is not done and the environment names a database.

    Returns:
        Whether the process has emberq's settings.
    """
    try:
        get_services()
    except RuntimeError:
        environment = get_environment()
        if environment.database_url is None:
            return False
        configure_services(
            environment,
            database_url=environment.database_url.get_secret_value(),
            redis_url=environment.redis_url or "",
        )
    return True


def read_tenant(tenant: str) -> dict[str, Any]:
    """Return a tenant's changes to Open WebUI's configuration.

    Raises:
        SettingInvalid: If the process has no settings of emberq, or the tenant has no key of its own.
        DatabaseUnavailable: If the settings must be read and the database stays away.
    """
    if not configure_tenants():
        raise SettingInvalid(
            f"The job names the tenant {tenant!r}, but the worker has no settings of tenants.",
            hint="Set EMBERQ_DATABASE_URL and EMBERQ_SECRET_KEY for the worker.",
        )
    refresh_settings()
    return tenant_values(tenant, get_worker_config())


def tenant_values(tenant: str, snapshot: Snapshot) -> dict[str, Any]:
    """Translate a tenant's settings.

    The key must be the tenant's own. A key of another tenant or of the environment is never used instead: it
    would charge another account and send the tenant's texts to it.

    Raises:
        SettingInvalid: If the tenant has no key of its own, or it cannot be read.
    """
    own: Mapping[str, Any] = snapshot.overrides.get(tenant, {})
    if any(unreadable.tenant == tenant for unreadable in snapshot.unreadable):
        raise SettingInvalid(
            f"The embedding settings of the tenant {tenant!r} cannot be read.",
            hint="EMBERQ_SECRET_KEY does not have the key that sealed them; see `emberq config list`.",
        )
    key = own[_KEY].get_secret_value() if _KEY in own else ""
    if not key:
        raise SettingInvalid(
            f"The tenant {tenant!r} has no embedding key of its own; nothing was sent.",
            hint=f"Set one: emberq config set {_KEY} --tenant {tenant}",
        )
    settings = snapshot.for_tenant(tenant)
    if settings.rag_embedding_engine != "openai":
        raise SettingInvalid(
            f"The tenant {tenant!r} has an embedding key, but no embedding server; nothing was sent.",
            hint="Set rag_embedding_api_base_url and rag_embedding_engine=openai for the tenant.",
        )
    return {
        "rag.embedding_engine": "openai",
        "rag.embedding_model": settings.rag_embedding_model,
        "rag.openai.api_base_url": settings.rag_embedding_api_base_url.rstrip("/"),
        "rag.openai.api_key": key,
        "rag.embedding_batch_size": settings.rag_embedding_batch_size,
    }


def refresh_settings() -> None:
    """Read the newest version of the settings, unless it was confirmed less than a second ago."""
    newest = get_config_cache().newest
    if time.monotonic() - newest.confirmed_at <= _MAX_AGE_SECONDS:
        return

    def read() -> int:
        with get_services().database.system_transaction() as connection:
            return settings_version(connection)

    newest.confirm(read)
