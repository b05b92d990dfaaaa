"""The tables of API keys, the audit log, hosts and settings."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from emberq.store.schema.base import NO_JSON, NOW, Base


class ApiKey(Base):
    """An API key; only its hash is stored."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    tenant: Mapped[str]
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: When it stops to be valid; never if null.
    expires_at: Mapped[datetime | None]
    #: Written once a minute at most; null before the first use.
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEntry(Base):
    """Who changed what: keys, settings, pauses and roles."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_at", "at"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: The name and prefix of the key that asked for it, or the program that did it.
    actor: Mapped[str]
    #: The tenant whose things were changed; '' stands for all tenants.
    tenant: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    #: What else is worth knowing; never a secret.
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=NO_JSON)


class Host(Base):
    """A host's lease on the jobs its workers run."""

    __tablename__ = "hosts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    pid: Mapped[int]
    #: The machine, and the identity of the main process on it; empty where they are unknown. A process on the
    #: same machine sees that a host died, and does not wait for its lease to expire.
    machine: Mapped[str] = mapped_column(server_default=text("''"))
    process: Mapped[str] = mapped_column(server_default=text("''"))
    workers: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    beat_at: Mapped[datetime] = mapped_column(server_default=NOW)
    lease_until: Mapped[datetime]
    #: The newest configuration the host's main process has read.
    config_version: Mapped[int] = mapped_column(server_default=text("0"))
    #: The version each worker slot applies, in the order of the slots.
    applied_versions: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    #: Whether changes are pushed to the host; otherwise it polls every few seconds.
    config_push: Mapped[bool] = mapped_column(server_default=text("false"))
    #: What keeps its workers from taking tickets: `suspended`, `read_only` and so on; null if nothing does.
    queue_error: Mapped[str | None]
    #: The settings that it cannot read: `{"items": [{key, tenant, reason}]}`.
    config_unreadable: Mapped[dict[str, Any] | None]


class Setting(Base):
    """A setting that differs from its default; tenant '' stands for all tenants."""

    __tablename__ = "settings"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: `{"value": …}`, or `{"sealed": "…"}` for a secret.
    value: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class SettingChange(Base):
    """The history of settings: one version per change, with a row for each setting that changed.

    Versions are numbered without gaps, under a lock, so that they are committed in their order: a reader
    that sees a version sees all earlier ones.
    """

    __tablename__ = "settings_history"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    old: Mapped[dict[str, Any] | None]
    new: Mapped[dict[str, Any] | None]
    changed_by: Mapped[str]
    #: What kind of change it was, if not a plain one, e.g. `rollback to 7`.
    note: Mapped[str | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=NOW)
