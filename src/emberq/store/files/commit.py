"""The commit of a file: new chunks in, old version out, job completed, if the fencing token is the newest.

The commit of a document also closes the tenant's circuit breaker (`emberq.store.jobs.breaker`): it proves
that the embedding provider works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from sqlalchemy import (
    Connection,
    LargeBinary,
    bindparam,
    column,
    delete,
    func,
    null,
    select,
    true,
    update,
)
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import ARRAY

from emberq.errors import Cancelled
from emberq.errors.file_warnings import FileWarning
from emberq.store.files.extractions import PageRange
from emberq.store.jobs.breaker import close_breaker
from emberq.store.jobs.claim import Attempt, LeaseLost
from emberq.store.jobs.fence import in_state
from emberq.store.jobs.transitions import move
from emberq.store.schema.job_states import COMMIT
from emberq.store.schema.tables import ChunkRow, Collection, FileRow, FileVersion, Job

#: Chunks that one statement inserts.
_INSERT_ROWS = 500
#: One statement with a list for each column; row-level security does not permit COPY. With the vector index,
#: which takes most of the time, 500 chunks take a tenth longer than by COPY.
_INSERT_CHUNKS = sql_text("""
INSERT INTO chunks (tenant, collection_id, file_id, version, index_version,
                    ordinal, text, start, "end", page, heading, header, fingerprint, embedding)
SELECT :tenant, :collection_id, :file_id, :version, :index_version,
       one.ordinal, one.text, one.start, one."end", one.page, one.heading, one.header, one.fingerprint,
       CAST(one.embedding AS halfvec)
FROM unnest(
    CAST(:ordinal AS bigint[]), CAST(:text AS text[]), CAST(:start AS bigint[]), CAST(:end AS bigint[]),
    CAST(:page AS bigint[]), CAST(:heading AS text[]), CAST(:header AS text[]), CAST(:fingerprint AS bytea[]),
    CAST(:embedding AS text[])
) AS one (ordinal, text, start, "end", page, heading, header, fingerprint, embedding)
""")


class ChunkValues(NamedTuple):
    """A chunk to be stored; the fields are columns of `chunks`."""

    ordinal: int
    text: str
    start: int
    end: int
    page: int | None
    heading: str | None
    fingerprint: bytes
    embedding: NDArray[np.float32]
    header: str | None = None


def known_vectors(
    connection: Connection, tenant: str, fingerprints: Sequence[bytes]
) -> dict[bytes, NDArray[np.float32]]:
    """Return the tenant's stored vectors for these fingerprints, so that no text is embedded twice."""
    # One row for each, however many chunks share the text. Not DISTINCT ON, which SQLAlchemy 2.0 and 2.1
    # write in incompatible ways.
    marks = bindparam("marks", list(fingerprints), ARRAY(LargeBinary))
    wanted = func.unnest(marks).table_valued(column("mark", LargeBinary)).render_derived("wanted")
    one = (
        select(ChunkRow.embedding)
        .where(ChunkRow.tenant == tenant, ChunkRow.fingerprint == wanted.c.mark)
        .limit(1)
        .lateral("one")
    )
    rows = connection.execute(
        select(wanted.c.mark.label("fingerprint"), one.c.embedding).select_from(wanted.join(one, true()))
    )
    return {bytes(row.fingerprint): np.asarray(row.embedding, dtype=np.float32) for row in rows}


def commit_file(
    connection: Connection,
    attempt: Attempt,
    *,
    text: str,
    media_type: str,
    page_count: int | None,
    chunks: Iterable[ChunkValues],
    timings: dict[str, float],
    pages: Sequence[PageRange] | None = None,
    warnings: Sequence[FileWarning] = (),
) -> None:
    """Make an attempt's result visible and complete its job, in the caller's transaction.

    Readers see the old version until this transaction commits and the new one afterwards, never a
    mixture.

    Args:
        connection: The transaction.
        attempt: The attempt.
        text: The text of the file, as Markdown if it is an extraction.
        media_type: The media type of the bytes.
        page_count: Number of pages, if the format has pages.
        chunks: The chunks to search; an extraction has none.
        timings: Seconds each stage took.
        pages: The pages or sections of an extraction.
        warnings: What of the file is not in the text.

    Raises:
        LeaseLost: If the job is not in this attempt any more, or was deleted with its collection.
        Cancelled: If cancellation is requested, or the file was deleted or replaced.
    """
    # Rows are locked in the order collection, file, job, here as in upload and deletion, to avoid deadlocks.
    connection.execute(
        select(Collection.id)
        .where(Collection.id == attempt.collection_id)
        .with_for_update(read=True, key_share=True)
    )
    file = connection.execute(
        select(FileRow.newest_version, FileRow.deleted_at)
        .where(FileRow.id == attempt.file_id)
        # KEY SHARE permits rows that refer to it: otherwise the admission of another job would wait.
        .with_for_update(key_share=True)
    ).one_or_none()
    job = connection.execute(
        select(Job.cancel_requested_at)
        .where(Job.id == attempt.job_id, Job.fence == attempt.fence, in_state(*COMMIT.sources))
        .with_for_update()
    ).one_or_none()
    if file is None or job is None:
        raise LeaseLost
    if job.cancel_requested_at is not None or file.deleted_at is not None:
        raise Cancelled
    if file.newest_version > attempt.version:
        raise Cancelled("A newer version of the file was uploaded.")
    _replace_chunks(
        connection,
        attempt,
        text=text,
        pages=null() if pages is None else [page._asdict() for page in pages],
        media_type=media_type,
        page_count=page_count,
        warnings=[warning.as_dict() for warning in warnings],
    )
    if pages is None:
        _insert_chunks(connection, attempt, chunks)
        # Not after an extraction: it did not use the provider.
        close_breaker(connection, attempt.tenant)
    connection.execute(
        move(COMMIT, fence=attempt.fence)
        .where(Job.id == attempt.job_id)
        .values(
            ended_at=func.now(),
            timings=timings,
            progress_done=Job.progress_total,
            error=None,
            error_code=None,
        )
    )


def _replace_chunks(connection: Connection, attempt: Attempt, **columns: Any) -> None:
    """Delete the old version's chunks, and write the columns of the new version."""
    connection.execute(delete(ChunkRow).where(ChunkRow.file_id == attempt.file_id))
    connection.execute(
        update(FileVersion)
        .where(FileVersion.file_id == attempt.file_id, FileVersion.version == attempt.version)
        .values(**columns)
    )
    connection.execute(
        update(FileVersion)
        .where(FileVersion.file_id == attempt.file_id, FileVersion.version < attempt.version)
        .values(text=None, pages=null())
    )
    connection.execute(
        update(FileRow).where(FileRow.id == attempt.file_id).values(visible_version=attempt.version)
    )


def _insert_chunks(connection: Connection, attempt: Attempt, chunks: Iterable[ChunkValues]) -> None:
    owner = {
        "tenant": attempt.tenant,
        "collection_id": attempt.collection_id,
        "file_id": attempt.file_id,
        "version": attempt.version,
        "index_version": attempt.index_version,
    }
    rest = iter(chunks)
    while batch := list(islice(rest, _INSERT_ROWS)):
        columns = dict(zip(ChunkValues._fields, map(list, zip(*batch, strict=True)), strict=True))
        columns["embedding"] = [HalfVector(vector).to_text() for vector in columns["embedding"]]
        connection.execute(_INSERT_CHUNKS, {**owner, **columns})
