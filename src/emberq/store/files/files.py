"""Files and their versions: listing, reading, changing and deleting."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, null, select, tuple_, update
from sqlalchemy.orm import aliased

from emberq.errors import FileNotFound, FileTooLarge
from emberq.store.jobs.queries import cancel_jobs_of_file
from emberq.store.schema.tables import ChunkRow, Collection, FileRow, FileVersion, Job

_columns = (
    FileRow.id,
    FileRow.name,
    FileRow.external_id,
    FileRow.source,
    FileRow.meta.label("metadata"),
    FileRow.visible_version,
    FileRow.newest_version,
    FileRow.created_at,
    Collection.name.label("collection"),
    FileVersion.sha256,
    FileVersion.size,
    FileVersion.media_type,
    FileVersion.page_count,
    FileVersion.warnings,
    FileVersion.blob,
    Job.id.label("job_id"),
    Job.state,
    Job.stage,
    Job.error,
)

#: Most characters of a file's text that are read at once; a file may have many times as many.
MOST_TEXT_CHARACTERS = 20_000_000


def _select_files() -> Any:
    other = aliased(Job)
    newest_job = (
        select(other.id)
        # By version, not by time alone: of two concurrent uploads the later version may have begun first.
        .where(other.file_id == FileRow.id, other.version == FileRow.newest_version)
        .order_by(other.created_at.desc(), other.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(*_columns)
        .join(Collection, Collection.id == FileRow.collection_id)
        .join(
            FileVersion,
            (FileVersion.file_id == FileRow.id) & (FileVersion.version == FileRow.newest_version),
        )
        .join(Job, Job.id == newest_job)
        .where(FileRow.deleted_at.is_(None))
    )


def get_file(connection: Connection, tenant: str, file_id: uuid.UUID) -> RowMapping:
    """Return a file with its newest version and the newest job of that.

    Raises:
        FileNotFound: If the tenant has no such file.
    """
    found: RowMapping | None = (
        connection.execute(_select_files().where(FileRow.tenant == tenant, FileRow.id == file_id))
        .mappings()
        .one_or_none()
    )
    if found is None:
        raise FileNotFound(f"There is no file {file_id}.")
    return found


def list_files(
    connection: Connection,
    collection: RowMapping,
    *,
    state: str | None = None,
    external_ids: Sequence[str] = (),
    source: str | None = None,
    after: tuple[Any, uuid.UUID] | None = None,
    limit: int = 50,
) -> list[RowMapping]:
    """Return a page of a collection's files, oldest first.

    Args:
        connection: The transaction.
        collection: A row of `get_collection`.
        state: Only files whose newest job is in this state.
        external_ids: Only files with one of these external ids; all if empty.
        source: Only files from this source.
        after: `(created_at, id)` of the last file of the page before.
        limit: Most files to return.
    """
    statement = _select_files().where(FileRow.collection_id == collection["id"])
    if state is not None:
        statement = statement.where(Job.state == state)
    if external_ids:
        statement = statement.where(FileRow.external_id.in_(external_ids))
    if source is not None:
        statement = statement.where(FileRow.source == source)
    if after is not None:
        statement = statement.where(tuple_(FileRow.created_at, FileRow.id) > after)
    return list(
        connection.execute(statement.order_by(FileRow.created_at, FileRow.id).limit(limit)).mappings()
    )


def get_text(
    connection: Connection, tenant: str, file_id: uuid.UUID, *, start: int = 0, end: int | None = None
) -> str | None:
    """Return the extracted text of the file's visible version; nothing if no version is visible.

    Args:
        connection: The transaction.
        tenant: The file's tenant.
        file_id: The file.
        start: Index of the first character to return.
        end: Index after the last one; the end of the text if left out.

    Raises:
        FileNotFound: If the tenant has no such file.
        FileTooLarge: If that is more text than an answer may have.
    """
    get_file(connection, tenant, file_id)
    statement = (
        select(func.length(FileVersion.text))
        .join(FileRow, (FileRow.id == FileVersion.file_id) & (FileRow.visible_version == FileVersion.version))
        .where(FileRow.id == file_id)
    )
    characters = connection.execute(statement).scalar_one_or_none() or 0
    wanted = min(characters, characters if end is None else end) - start
    if wanted > MOST_TEXT_CHARACTERS:
        raise FileTooLarge(
            f"The text has {wanted:,} characters, and an answer {MOST_TEXT_CHARACTERS:,} at most.",
            hint="Ask for parts of it, with start and end.",
        )
    part = func.substr(FileVersion.text, start + 1, max(0, wanted))
    return connection.execute(statement.with_only_columns(part)).scalar_one_or_none()


def update_file(
    connection: Connection,
    tenant: str,
    file_id: uuid.UUID,
    *,
    name: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> RowMapping:
    """Change a file's name and metadata, as far as they are given, and return it as `get_file`.

    Searches read both from the file: their next results have the new ones.

    Raises:
        FileNotFound: If the tenant has no such file.
    """
    changes = {key: value for key, value in (("name", name), ("meta", metadata)) if value is not None}
    if changes:
        connection.execute(
            update(FileRow)
            .where(FileRow.id == file_id, FileRow.tenant == tenant, FileRow.deleted_at.is_(None))
            .values(**changes)
        )
    return get_file(connection, tenant, file_id)


def delete_file(connection: Connection, tenant: str, file_id: uuid.UUID) -> None:
    """Delete a file's chunks and text; its row stays as a tombstone, so that a late commit is refused.

    Raises:
        FileNotFound: If the tenant has no such file.
    """
    deleted = connection.execute(
        update(FileRow)
        .where(FileRow.id == file_id, FileRow.tenant == tenant, FileRow.deleted_at.is_(None))
        .values(deleted_at=func.now(), visible_version=None)
    ).rowcount
    if not deleted:
        raise FileNotFound(f"There is no file {file_id}.")
    connection.execute(delete(ChunkRow).where(ChunkRow.file_id == file_id))
    connection.execute(
        update(FileVersion).where(FileVersion.file_id == file_id).values(text=None, pages=null())
    )
    cancel_jobs_of_file(connection, file_id, reason="The file was deleted.")
