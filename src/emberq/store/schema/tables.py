"""The schema: PostgreSQL decides, Redis only carries tickets."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Sequence,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from emberq.store.schema.job_states import JobState

__all__ = [
    "DEFAULT_TENANT",
    "ApiKey",
    "Base",
    "Breaker",
    "ChunkRow",
    "Collection",
    "CollectionKind",
    "EmbeddingCacheRow",
    "FileRow",
    "FileVersion",
    "Host",
    "IdempotencyKey",
    "Job",
    "JobState",
    "PastOutcome",
    "Pause",
    "Setting",
    "SettingChange",
    "Turn",
    "fence_sequence",
    "job_sequence",
]

#: The tenant of the first API key; installations that never speak of tenants live in it.
DEFAULT_TENANT = "default"


class Base(DeclarativeBase):
    """All tables; every time is aware UTC, every id a UUIDv4 made by the program."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own form
        dict[str, Any]: JSONB,
        float: Double,
        list[str]: ARRAY(Text),
        list[int]: ARRAY(BigInteger),
        datetime: DateTime(timezone=True),
        str: Text,
        int: BigInteger,
    }


#: Fencing tokens: a claim takes the next one, and only the newest holder may commit.
fence_sequence = Sequence("fence_seq", metadata=Base.metadata)
#: Stamped on a job row by every change of it; the order in which event streams tell of changes.
job_sequence = Sequence("job_seq", metadata=Base.metadata)

_now = func.now()
_no_json = text("'{}'::jsonb")


class ApiKey(Base):
    """A bearer key; only its hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    tenant: Mapped[str]
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=_now)
    revoked_at: Mapped[datetime | None]


class CollectionKind(StrEnum):
    """What becomes of a collection's files.

    `documents` are split, embedded and searched. `extraction`: they are read, and what was read is kept
    for a while for whoever asked for it; each tenant has at most one such, which no listing shows.
    """

    DOCUMENTS = "documents"
    EXTRACTION = "extraction"


class Collection(Base):
    """A named set of files that are searched together, embedded by one model."""

    __tablename__ = "collections"
    __table_args__ = (
        UniqueConstraint("tenant", "name"),
        CheckConstraint("kind IN ('documents','extraction')", name="collections_kind"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    tenant: Mapped[str]
    name: Mapped[str]
    #: A `CollectionKind`.
    kind: Mapped[str] = mapped_column(server_default=text("'documents'"))
    #: Empty for an extraction collection, which needs none.
    embedding_model: Mapped[str]
    #: The index generation searches read; a reindex under another model fills the next one.
    generation: Mapped[int] = mapped_column(server_default=text("1"))
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=_no_json)
    created_at: Mapped[datetime] = mapped_column(server_default=_now)


class FileRow(Base):
    """A file's identity: (collection, external id); its bytes come in versions."""

    __tablename__ = "files"
    __table_args__ = (
        Index(
            "files_external_id",
            "collection_id",
            "external_id",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("files_listing", "collection_id", "created_at", "id"),
        Index("files_deleted", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        Index("files_used", "used_at", postgresql_where=text("used_at IS NOT NULL")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    tenant: Mapped[str]
    collection_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    external_id: Mapped[str]
    name: Mapped[str]
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=_no_json)
    #: The version readers see; empty until the first one is complete.
    visible_version: Mapped[int | None]
    newest_version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=_now)
    #: When an extraction was last asked for; it is kept for `extraction_ttl` after that.
    used_at: Mapped[datetime | None]
    #: A tombstone: the row stays so that a late commit cannot bring the file back.
    deleted_at: Mapped[datetime | None]


class FileVersion(Base):
    """The bytes of a file as they came at one time, and the text that was found in them."""

    __tablename__ = "file_versions"
    __table_args__ = (Index("file_versions_blob", "blob"),)

    file_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size: Mapped[int]
    blob: Mapped[str]
    media_type: Mapped[str | None]
    text: Mapped[str | None]
    #: The pages or sections of an extraction, `{start, end, page, heading}`; see `store.files.extractions`.
    pages: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    page_count: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_now)


class Job(Base):
    """One file version's way through the pipeline."""

    __tablename__ = "jobs"
    __table_args__ = (
        # Each tenant's and collection's next job, without stepping over what may not run now.
        Index(
            "jobs_ready",
            "tenant",
            "collection_id",
            "priority",
            "created_at",
            "id",
            postgresql_where=text("state = 'pending' AND not_before IS NULL"),
        ),
        Index(
            "jobs_backoff",
            "not_before",
            "tenant",
            postgresql_where=text("state = 'pending' AND not_before IS NOT NULL"),
        ),
        Index("jobs_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index("jobs_live", "state", "queued_at", postgresql_where=text("state IN ('queued','processing')")),
        Index("jobs_listing", "tenant", "created_at", "id"),
        Index("jobs_file", "file_id", "version"),
        Index("jobs_changes", "tenant", "seq"),
        CheckConstraint(
            "state IN ('pending','queued','processing','completed','failed','cancelled')", name="jobs_state"
        ),
        CheckConstraint("attempt <= max_attempts", name="jobs_attempts_bounded"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    tenant: Mapped[str]
    collection_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    file_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"))
    version: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    #: Low runs first.
    priority: Mapped[int] = mapped_column(server_default=text("100"))
    stage: Mapped[str | None]
    progress_done: Mapped[int] = mapped_column(server_default=text("0"))
    progress_total: Mapped[int] = mapped_column(server_default=text("0"))
    #: Counted when work is taken, so that a file that kills its process is counted too.
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int]
    #: Deliveries in a row whose horse died before the claim.
    requeues: Mapped[int] = mapped_column(server_default=text("0"))
    quarantined: Mapped[bool] = mapped_column(server_default=text("false"))
    #: The fencing token of the newest claim; an older holder can change nothing.
    fence: Mapped[int | None]
    host_id: Mapped[uuid.UUID | None]
    worker: Mapped[str | None]
    #: The id of the RQ job that stands for this one in Redis.
    ticket: Mapped[str | None]
    not_before: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None]
    #: How attempts ended that did not commit: `{attempt, code, message, stage, at, worker}`, oldest first.
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    timings: Mapped[dict[str, Any]] = mapped_column(server_default=_no_json)
    config_version: Mapped[int | None]
    callback_url: Mapped[str | None]
    traceparent: Mapped[str | None]
    seq: Mapped[int] = mapped_column(BigInteger, server_default=job_sequence.next_value())
    created_at: Mapped[datetime] = mapped_column(server_default=_now)
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    progress_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class ChunkRow(Base):
    """A searchable piece of a file's visible version."""

    __tablename__ = "chunks"
    __table_args__ = (
        Index("chunks_file", "file_id", "ordinal"),
        Index("chunks_collection", "collection_id"),
        Index("chunks_words", "words", postgresql_using="gin"),
        Index("chunks_fingerprint", "fingerprint"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant: Mapped[str]
    collection_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    file_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"))
    version: Mapped[int]
    generation: Mapped[int]
    ordinal: Mapped[int]
    text: Mapped[str]
    start: Mapped[int]
    end: Mapped[int]
    page: Mapped[int | None]
    heading: Mapped[str | None]
    #: sha256 over the model's fingerprint and the embedded text: equal means the same vector.
    fingerprint: Mapped[bytes]
    embedding: Mapped[Any] = mapped_column(HALFVEC)
    words: Mapped[Any] = mapped_column(
        TSVECTOR, Computed("to_tsvector('english', coalesce(heading, '') || ' ' || text)", persisted=True)
    )


class EmbeddingCacheRow(Base):
    """The vector of a text that some other program asked for, kept for whoever of the tenant asks again."""

    __tablename__ = "embedding_cache"
    __table_args__ = (Index("embedding_cache_used", "used_at"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    #: As in `chunks`: sha256 over the model's fingerprint and the text.
    fingerprint: Mapped[bytes] = mapped_column(primary_key=True)
    #: Little-endian float32, not rounded: the second answer is the first one to the last bit.
    vector: Mapped[bytes]
    #: Tokens of the text, for the answer's `usage`.
    tokens: Mapped[int]
    #: When it was last asked for, to within an hour.
    used_at: Mapped[datetime] = mapped_column(server_default=_now)


class IdempotencyKey(Base):
    """What an upload under an `Idempotency-Key` was answered with."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_job", "job_id"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: sha256 over collection, external id and bytes; another one under the same key is a conflict.
    request: Mapped[str]
    file_id: Mapped[uuid.UUID]
    job_id: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=_now)


class Host(Base):
    """A host's lease on the jobs its workers run."""

    __tablename__ = "hosts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    pid: Mapped[int]
    #: What processes that see each other share, and the identity of the main one; empty where it cannot be
    #: told. Whoever runs on the same machine sees a death and need not wait for the lease.
    machine: Mapped[str] = mapped_column(server_default=text("''"))
    process: Mapped[str] = mapped_column(server_default=text("''"))
    workers: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=_now)
    beat_at: Mapped[datetime] = mapped_column(server_default=_now)
    lease_until: Mapped[datetime]
    #: The newest configuration the host's main process has read.
    config_version: Mapped[int] = mapped_column(server_default=text("0"))
    #: The version each worker slot applies, in the order of the slots.
    applied_versions: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    #: Whether the host hears of changes at once; it asks every few seconds otherwise.
    config_push: Mapped[bool] = mapped_column(server_default=text("false"))
    #: What of the newest configuration it cannot read: `{"items": [{key, tenant, reason}]}`.
    config_unreadable: Mapped[dict[str, Any] | None]


class Setting(Base):
    """A setting that was changed from its default; tenant '' means everybody."""

    __tablename__ = "settings"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: `{"value": …}`, or `{"sealed": "…"}` for a secret.
    value: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=_now)


class SettingChange(Base):
    """The history of settings: one version a change, with a row for each setting that it changed.

    Versions are numbered without gaps, under a lock, so that they are committed in their order: who has
    seen a version has seen all before it.
    """

    __tablename__ = "settings_history"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    old: Mapped[dict[str, Any] | None]
    new: Mapped[dict[str, Any] | None]
    changed_by: Mapped[str]
    #: What the change was, if it was no single one, e.g. `rollback to 7`.
    note: Mapped[str | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=_now)


class Turn(Base):
    """How far a tenant has come in the round; see `emberq.store.jobs.admission`."""

    __tablename__ = "turns"
    __table_args__ = (Index("turns_started", "started"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    #: Where on the virtual clock its latest job began and where its next one may: 1/weight further on.
    started: Mapped[float]
    ended: Mapped[float]
    #: Jobs it was given so far; every fifth turn belongs to its bulk jobs.
    taken: Mapped[int]


class Pause(Base):
    """Work that is held back until somebody resumes it."""

    __tablename__ = "pauses"

    #: `queue`, `tenant` or `collection`.
    scope: Mapped[str] = mapped_column(primary_key=True)
    #: Whose jobs; empty for a queue, which holds everybody's.
    tenant: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    paused_at: Mapped[datetime] = mapped_column(server_default=_now)


class Breaker(Base):
    """A tenant's run of failures of its embedding provider; no row while all is well."""

    __tablename__ = "breakers"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    error_code: Mapped[str]
    failed_at: Mapped[datetime]
    #: When one job is let through to look; empty while there are too few failures to hold jobs back.
    retry_at: Mapped[datetime | None]


class PastOutcome(Base):
    """Outcomes that no row tells of any more: jobs that were retried or purged, counted by triggers."""

    __tablename__ = "past_outcomes"

    state: Mapped[str] = mapped_column(primary_key=True)
    error_code: Mapped[str] = mapped_column(primary_key=True)
    jobs: Mapped[int]
