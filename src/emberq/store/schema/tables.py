"""The tables of collections, files, jobs and chunks.

PostgreSQL is the source of truth; Redis only carries tickets. Every time is aware UTC.
"""

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
    ForeignKey,
    Identity,
    Index,
    Sequence,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from emberq.store.schema.base import NO_JSON, NOW, Base

#: Fencing tokens: a claim takes the next one, and only the newest one may commit.
fence_sequence = Sequence("fence_seq", metadata=Base.metadata)
#: Written to a job's row by every change of it; event streams follow this order.
job_sequence = Sequence("job_seq", metadata=Base.metadata)


class CollectionKind(StrEnum):
    """What the files of a collection are for.

    `documents` are split, embedded and searched. Of an `extraction` only the text is kept, for a while, for
    the client that sent the file; each tenant has at most one such collection, which no listing shows.
    """

    DOCUMENTS = "documents"
    EXTRACTION = "extraction"


class Collection(Base):
    """A named set of files that are searched together and embedded by one model."""

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
    #: Empty for an extraction collection.
    embedding_model: Mapped[str]
    #: The index version that searches read; a reindex with another model fills the next one.
    index_version: Mapped[int] = mapped_column(server_default=text("1"))
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=NO_JSON)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class FileRow(Base):
    """A file, identified by collection and external id; its bytes are in versions."""

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
    #: Where the file comes from, such as a folder, as its uploader said.
    source: Mapped[str | None]
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=NO_JSON)
    #: The version that readers see; empty until the first one is complete.
    visible_version: Mapped[int | None]
    newest_version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: When an extraction was last requested; it is kept for `extraction_ttl` after that.
    used_at: Mapped[datetime | None]
    #: Marks a tombstone: the row stays, so that a late commit cannot bring the file back.
    deleted_at: Mapped[datetime | None]


class FileVersion(Base):
    """One version of a file: its bytes, by hash, and the text extracted from them."""

    __tablename__ = "file_versions"
    __table_args__ = (Index("file_versions_blob", "blob"),)

    tenant: Mapped[str]
    file_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size: Mapped[int]
    blob: Mapped[str]
    media_type: Mapped[str | None]
    #: What of the bytes is not in the text, as `FileWarning.as_dict` has it.
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    text: Mapped[str | None]
    #: The pages or sections of an extraction, `{start, end, page, heading}`; see `store.files.extractions`.
    pages: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    page_count: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Job(Base):
    """The processing of one file version; see `emberq.store.schema.job_states`."""

    __tablename__ = "jobs"
    __table_args__ = (
        # Finds the next ready job of each tenant and collection without reading delayed ones.
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
    #: Counted at the claim, so that an attempt that kills its process is counted, too.
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int]
    #: Deliveries in a row whose horse died before the claim.
    requeues: Mapped[int] = mapped_column(server_default=text("0"))
    quarantined: Mapped[bool] = mapped_column(server_default=text("false"))
    #: The fencing token of the newest claim; an older one can change nothing.
    fence: Mapped[int | None]
    host_id: Mapped[uuid.UUID | None]
    worker: Mapped[str | None]
    #: The id of the RQ job that stands for this one in Redis.
    ticket: Mapped[str | None]
    not_before: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None]
    #: The ends of attempts without a commit: `{attempt, code, message, stage, at, worker}`, oldest first.
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    timings: Mapped[dict[str, Any]] = mapped_column(server_default=NO_JSON)
    config_version: Mapped[int | None]
    callback_url: Mapped[str | None]
    traceparent: Mapped[str | None]
    seq: Mapped[int] = mapped_column(BigInteger, server_default=job_sequence.next_value())
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    index_version: Mapped[int]
    ordinal: Mapped[int]
    text: Mapped[str]
    start: Mapped[int]
    end: Mapped[int]
    page: Mapped[int | None]
    heading: Mapped[str | None]
    #: The names of the columns, if the chunk begins with a later row of a table.
    header: Mapped[str | None]
    #: sha256 over the model's fingerprint and the embedded text: equal fingerprints mean equal vectors.
    fingerprint: Mapped[bytes]
    embedding: Mapped[Any] = mapped_column(HALFVEC)
    words: Mapped[Any] = mapped_column(
        TSVECTOR,
        Computed(
            "to_tsvector('english', coalesce(heading, '') || ' ' || coalesce(header, '') || ' ' || text)",
            persisted=True,
        ),
    )


class EmbeddingCacheRow(Base):
    """The cached vector of a text that a client of the embeddings API sent."""

    __tablename__ = "embedding_cache"
    __table_args__ = (Index("embedding_cache_used", "used_at"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    #: As in `chunks`: sha256 over the model's fingerprint and the text.
    fingerprint: Mapped[bytes] = mapped_column(primary_key=True)
    #: Little-endian float32, not rounded: a cached answer equals the first one to the last bit.
    vector: Mapped[bytes]
    #: Tokens of the text, for the answer's `usage`.
    tokens: Mapped[int]
    #: When it was last requested, to within an hour.
    used_at: Mapped[datetime] = mapped_column(server_default=NOW)


class IdempotencyKey(Base):
    """The answer to an upload with an `Idempotency-Key`."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_job", "job_id"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: Collection, external id or name, and sha256 of the bytes; another request under the same key conflicts.
    request: Mapped[str]
    file_id: Mapped[uuid.UUID]
    job_id: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Turn(Base):
    """A tenant's position in the round; see `emberq.store.jobs.fair_share`."""

    __tablename__ = "turns"
    __table_args__ = (Index("turns_started", "started"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    #: Where on the virtual clock its latest job began, and where its next one may begin: 1/weight later.
    started: Mapped[float]
    ended: Mapped[float]
    #: Jobs admitted so far; every fifth turn belongs to its bulk jobs.
    taken: Mapped[int]


class Pause(Base):
    """A pause of a queue, a tenant or a collection."""

    __tablename__ = "pauses"

    #: `queue`, `tenant` or `collection`.
    scope: Mapped[str] = mapped_column(primary_key=True)
    #: The tenant of the paused jobs; empty for a queue, which carries the jobs of all tenants.
    tenant: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    paused_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Breaker(Base):
    """A tenant's failures in a row of its embedding provider; no row without failures."""

    __tablename__ = "breakers"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    error_code: Mapped[str]
    failed_at: Mapped[datetime]
    #: When the next probe is due; empty while the breaker is closed.
    retry_at: Mapped[datetime | None]


class PastOutcome(Base):
    """Outcomes of jobs that were retried or deleted since, counted by triggers."""

    __tablename__ = "past_outcomes"

    state: Mapped[str] = mapped_column(primary_key=True)
    error_code: Mapped[str] = mapped_column(primary_key=True)
    jobs: Mapped[int]
