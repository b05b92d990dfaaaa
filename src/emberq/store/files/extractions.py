"""Extractions: files of which only the text is wanted, kept for a while.

Each tenant has one collection for them, made when it is first needed. Its name is not a valid name for
other collections, and no listing, search or deletion by name reaches it. A file in it is identified by its
bytes, so a second request with the same bytes finds the running job or its result.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from emberq.errors import JobNotFound
from emberq.store.jobs.fence import in_state
from emberq.store.schema.job_states import LIVE_STATES, JobState
from emberq.store.schema.tables import Collection, CollectionKind, FileRow, FileVersion, Job

#: The name of the collection; the pattern of names refuses the tilde.
EXTRACTION_COLLECTION = "~extraction"
#: Most characters of an extraction, and of all the text in an answer with several formats of it; about nine
#: times the Bible. The API holds an answer in memory.
MAX_EXTRACTED_CHARACTERS = 40_000_000
#: Files deleted by one statement, so that a purge of millions keeps no lock for long.
_BATCH = 1000


class PageRange(NamedTuple):
    """The position of a page or section in the text of its file.

    Attributes:
        start: Index of its first character.
        end: Index after its last character.
        page: 1-based number of the page, slide, sheet or part; nothing if the format has none.
        heading: The headings above it, outermost first.
    """

    start: int
    end: int
    page: int | None
    heading: str | None


class PageText(NamedTuple):
    """A page or section: `PageRange` with its Markdown in place of the range."""

    text: str
    page: int | None
    heading: str | None


@dataclass(frozen=True, slots=True)
class Extraction:
    """The text extracted from a file.

    Attributes:
        text: The whole text, as Markdown.
        ranges: Its pages or sections, in order.
        media_type: The media type of the bytes.
        page_count: Number of pages, slides, sheets or parts, if the format has any.
        sha256: Hash of the bytes, in hex.
    """

    text: str
    ranges: Sequence[PageRange]
    media_type: str
    page_count: int | None
    sha256: str

    def pages(self) -> Iterator[PageText]:
        """Yield the pages or sections that have text."""
        for start, end, page, heading in self.ranges:
            yield PageText(self.text[start:end], page, heading)


@dataclass(frozen=True, slots=True)
class ExtractionEnd:
    """The end of an extraction's job.

    Attributes:
        extraction: The extracted text, if the job completed.
        error: The error, if it did not: `{code, message, hint, …}`.
    """

    extraction: Extraction | None
    error: dict[str, Any] | None


def extraction_collection(connection: Connection, tenant: str) -> RowMapping:
    """Return the collection of a tenant's extractions; make it if it does not exist."""
    wanted = select(*Collection.__table__.c).where(
        Collection.tenant == tenant, Collection.kind == CollectionKind.EXTRACTION
    )
    while (found := connection.execute(wanted).mappings().one_or_none()) is None:
        connection.execute(
            insert(Collection)
            .values(
                id=uuid.uuid4(),
                tenant=tenant,
                name=EXTRACTION_COLLECTION,
                kind=CollectionKind.EXTRACTION.value,
                embedding_model="",
            )
            .on_conflict_do_nothing()
        )
    return found


def ended_jobs(connection: Connection, job_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of the jobs that have ended or are deleted."""
    live = connection.execute(select(Job.id).where(Job.id == func.any(list(job_ids)), in_state(*LIVE_STATES)))
    return set(job_ids).difference(live.scalars())


def read_end(connection: Connection, tenant: str, job_id: uuid.UUID) -> ExtractionEnd:
    """Return how the job of an extraction ended.

    Raises:
        JobNotFound: If the job, or its text, was deleted.
    """
    row = (
        connection.execute(
            select(
                Job.state,
                Job.error,
                FileVersion.text,
                FileVersion.pages,
                FileVersion.media_type,
                FileVersion.page_count,
                FileVersion.sha256,
            )
            .join(FileVersion, (FileVersion.file_id == Job.file_id) & (FileVersion.version == Job.version))
            .where(Job.id == job_id, Job.tenant == tenant)
        )
        .mappings()
        .one_or_none()
    )
    if row is None or (row["state"] == JobState.COMPLETED and row["pages"] is None):
        raise JobNotFound(f"There is no job {job_id}.")
    if row["state"] != JobState.COMPLETED:
        return ExtractionEnd(None, row["error"] or {})
    extraction = Extraction(
        text=row["text"],
        ranges=[PageRange(**page) for page in row["pages"]],
        media_type=row["media_type"],
        page_count=row["page_count"],
        sha256=row["sha256"],
    )
    return ExtractionEnd(extraction, None)


def purge_extraction_batch(connection: Connection, *, older_than_seconds: float) -> int:
    """Delete a batch of the extractions, of all tenants, whose last request is older than this.

    An extraction whose job has not ended, or ended later than this, stays: a request may wait for it.

    Returns:
        How many were deleted; call again while it is as many as a batch has.
    """
    before = func.now() - timedelta(seconds=older_than_seconds)
    is_busy = exists().where(Job.file_id == FileRow.id, or_(Job.ended_at.is_(None), Job.ended_at >= before))
    old = (
        # A row that is locked by a request for the extraction is skipped; afterwards it is no longer old.
        select(FileRow.id)
        .where(FileRow.used_at < before, ~is_busy)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
        .cte()
    )
    return connection.execute(delete(FileRow).where(FileRow.id == old.c.id)).rowcount
