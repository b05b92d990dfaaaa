"""Garbage collection of blobs that no file refers to, safe against concurrent uploads.

A failed upload, a deleted file and a purged version leave blobs behind. The danger in deleting them is this
order: the collector sees no row, an upload of the same bytes publishes its blob and commits its row, the
collector deletes the blob. Three rules prevent it:

1. An upload publishes its blob inside the transaction that writes its row, under a shared advisory lock on
   the hash (`lock_blob_shared`). The collector looks and moves the blob under the exclusive lock. If the
   upload is first, the collector sees its row. If the collector is first, the upload publishes its own copy
   afterwards.
2. The lock ends with the connection, so a collector that was stopped for long (SIGSTOP, a restart of
   PostgreSQL) may have lost it without notice. Therefore it does not delete the blob but moves it into a
   directory of discarded blobs, and then looks again in the same transaction: an answer proves that the
   lock was never lost, and without an answer the blob is put back.
3. A discarded blob is named by its hash. If the collector dies, the next one finds it, looks again under the
   lock, and puts it back or deletes it.

The grace period protects readers: a download of a file that was deleted a moment ago. A draft is an upload
in progress; its process keeps a lock on it. So a draft that can be locked, and that was not written to
during the grace period, belongs to a process that died.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, func, or_, select, text

from emberq.errors import DatabaseUnavailable
from emberq.store.database import Database
from emberq.store.files.blobs import BlobStore, reached_storage
from emberq.store.schema.tables import FileRow, FileVersion
from emberq.system.file_lock import lock_file

#: First half of the advisory locks on hashes; keeps them apart from all other locks.
_LOCK_SPACE = 0x626C6F62
#: The name of a directory of blobs: two digits of the hash.
_PREFIX = re.compile(r"[0-9a-f]{2}")
#: A hash, in hex.
_SHA256 = re.compile(r"[0-9a-f]{64}")

_LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(:space, hashtext(:sha256))")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:space, hashtext(:sha256))")


def lock_blob_shared(connection: Connection, sha256: str) -> None:
    """Protect the bytes with this hash from garbage collection until the transaction ends.

    Call it before publishing the bytes, and before any row is locked: a transaction that waits for it must
    not block others.
    """
    connection.execute(_LOCK_SHARED, {"space": _LOCK_SPACE, "sha256": sha256})


def old_blobs(store: BlobStore, prefix: str, *, older_than_seconds: float) -> list[str]:
    """Return the hashes with a prefix whose bytes were published longer ago than `older_than_seconds`.

    Raises:
        StorageUnavailable: If the store cannot be read.
    """
    before = time.time() - older_than_seconds
    with reached_storage(), suppress(FileNotFoundError):
        return [
            prefix + entry.name
            for entry in os.scandir(store.root / prefix)
            if _SHA256.fullmatch(prefix + entry.name) and _changed_at(entry) < before
        ]
    return []


def delete_unreferenced_blobs(
    database: Database, store: BlobStore, hashes: Sequence[str], *, older_than_seconds: float
) -> int:
    """Delete those of the blobs that no file refers to, and return how many.

    Args:
        database: PostgreSQL, which knows the references.
        store: The blobs.
        hashes: Candidates, as `old_blobs` returns them.
        older_than_seconds: Blobs that were published, or whose file was deleted, later than this stay.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; nothing is lost.
        StorageUnavailable: If the store cannot be written.
    """
    if not hashes:
        return 0
    with database.system_transaction() as connection:
        kept = _referenced(connection, hashes, older_than_seconds=older_than_seconds)
    return sum(
        _delete_unreferenced(database, store, sha256, older_than_seconds=older_than_seconds)
        for sha256 in hashes
        if sha256 not in kept
    )


def _delete_unreferenced(
    database: Database, store: BlobStore, sha256: str, *, older_than_seconds: float
) -> bool:
    place, aside = store.path_of(sha256), store.discarded / sha256
    try:
        with database.system_transaction() as connection:
            if not _lock(connection, sha256) or _referenced(
                connection, [sha256], older_than_seconds=older_than_seconds
            ):
                return False
            with reached_storage():
                if _is_younger(place, older_than_seconds):
                    return False
                place.replace(aside)
            # Proves that the lock was never lost; see the module.
            is_needed = bool(_referenced(connection, [sha256], older_than_seconds=older_than_seconds))
            if is_needed:
                _put_back(place, aside)
    except DatabaseUnavailable:
        _put_back(place, aside)
        raise
    if not is_needed:
        with reached_storage():
            aside.unlink(missing_ok=True)
    return not is_needed


def restore_discarded_blobs(database: Database, store: BlobStore, *, older_than_seconds: float) -> int:
    """Finish the work of dead collectors: put referenced blobs back, delete the others.

    Returns:
        How many were put back.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        StorageUnavailable: If the store cannot be written.
    """
    restored = 0
    with reached_storage():
        left = [path for path in store.discarded.iterdir() if _SHA256.fullmatch(path.name)]
    for aside in left:
        with database.system_transaction() as connection:
            if not _lock(connection, aside.name):
                continue
            if _referenced(connection, [aside.name], older_than_seconds=older_than_seconds):
                restored += _put_back(store.path_of(aside.name), aside)
            else:
                with reached_storage():
                    aside.unlink(missing_ok=True)
    return restored


def delete_abandoned_drafts(store: BlobStore, *, older_than_seconds: float) -> int:
    """Delete the drafts of dead processes, and return how many.

    Raises:
        StorageUnavailable: If the store cannot be written.
    """
    deleted = 0
    with reached_storage():
        for path in store.drafts.iterdir():
            with suppress(FileNotFoundError):
                if not _is_younger(path, older_than_seconds) and _is_abandoned(path):
                    path.unlink()
                    deleted += 1
    return deleted


def prefixes(store: BlobStore) -> Iterator[str]:
    """Return the prefixes under which there are blobs, two digits each.

    Raises:
        StorageUnavailable: If the store cannot be read.
    """
    with reached_storage():
        yield from sorted(entry.name for entry in os.scandir(store.root) if _PREFIX.fullmatch(entry.name))


def _lock(connection: Connection, sha256: str) -> bool:
    """Take the exclusive lock, unless the same bytes are being uploaded or garbage-collected."""
    return bool(connection.execute(_TRY_LOCK, {"space": _LOCK_SPACE, "sha256": sha256}).scalar_one())


def _referenced(connection: Connection, hashes: Sequence[str], *, older_than_seconds: float) -> set[str]:
    """Return those of the hashes that a version of a file refers to; a deleted file counts for a while."""
    is_live = or_(
        FileRow.deleted_at.is_(None),
        FileRow.deleted_at > func.now() - timedelta(seconds=older_than_seconds),
    )
    rows = connection.execute(
        select(FileVersion.blob)
        .join(FileRow, FileRow.id == FileVersion.file_id)
        .where(FileVersion.blob == func.any(list(hashes)), is_live)
    )
    return set(rows.scalars())


def _put_back(place: Path, aside: Path) -> bool:
    """Put a discarded blob back; a newer copy in its place has the same bytes."""
    with reached_storage(), suppress(FileNotFoundError):
        aside.replace(place)
        return True
    return False


def _is_younger(path: Path, seconds: float) -> bool:
    """Tell whether a file was written less than `seconds` ago; a missing file counts as young."""
    try:
        return path.stat().st_mtime > time.time() - seconds
    except FileNotFoundError:
        return True


def _changed_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _is_abandoned(draft: Path) -> bool:
    # NFS gives an exclusive lock only to who may write.
    with draft.open("r+b") as file:
        try:
            return lock_file(file.fileno())
        except OSError:
            return False
