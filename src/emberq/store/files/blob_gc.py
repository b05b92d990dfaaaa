"""Orphans: bytes that no file refers to, and how they go without ever taking an upload's bytes along.

An upload whose transaction failed leaves a blob behind, and so does a deleted file or a purged version.
Somebody has to look for such blobs, and the danger is this order: the collector sees no row, an upload of
the same bytes puts its blob in place and commits its row, the collector deletes. Three things stand
against it:

1. An upload publishes its blob inside the transaction that writes its row, under a shared advisory lock on
   the hash (`lock_blob_shared`). The collector looks and takes away under the exclusive lock. So either the
   upload is first, and the collector sees the row; or the collector is first, and the upload, which always
   brings its own copy, puts it in place afterwards.
2. The lock ends with the connection, so a collector that stands still for long (SIGSTOP, a restart of
   PostgreSQL) may hold it no more without knowing. It therefore does not delete, it moves the blob aside,
   and then asks again in the same transaction: an answer proves that the lock was held all the time, and
   without one the blob goes back to its place.
3. What lies aside is named by its hash. If the collector dies, the next one finds it there, asks again
   under the lock, and puts it back or deletes it.

The grace period on top is for whoever reads: a download of a file that was deleted a moment ago. A draft
is an upload that is under way; its process holds a lock on it, so one that can be locked, and has not been
written to for the grace period, was left by a process that died.
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

__all__ = [
    "collect_blobs",
    "collect_drafts",
    "lock_blob_shared",
    "old_blobs",
    "prefixes",
    "restore_discarded",
]

#: First half of the advisory locks on hashes; keeps them apart from all others.
_LOCK_SPACE = 0x626C6F62
#: Where blobs lie: two digits of the hash.
_PREFIX = re.compile(r"[0-9a-f]{2}")
#: A hash.
_SHA256 = re.compile(r"[0-9a-f]{64}")

_LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(:space, hashtext(:sha256))")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:space, hashtext(:sha256))")


def lock_blob_shared(connection: Connection, sha256: str) -> None:
    """Keep the bytes with this hash from being collected until the transaction ends; publish them after it.

    Take it before any row is locked: whoever waits for it so holds nothing that others wait for.
    """
    connection.execute(_LOCK_SHARED, {"space": _LOCK_SPACE, "sha256": sha256})


def old_blobs(store: BlobStore, prefix: str, *, older_than_seconds: float) -> list[str]:
    """Return the hashes beginning with two digits whose bytes were put there longer ago than that.

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


def collect_blobs(
    database: Database, store: BlobStore, hashes: Sequence[str], *, older_than_seconds: float
) -> int:
    """Delete those of the blobs that no file refers to and return how many there were.

    Args:
        database: PostgreSQL, which knows what is referred to.
        store: Where the blobs lie.
        hashes: Candidates, as `old_blobs` finds them.
        older_than_seconds: What was deleted or put there later stays.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; nothing is lost.
        StorageUnavailable: If the store cannot be written.
    """
    if not hashes:
        return 0
    with database.transaction() as connection:
        kept = _referred(connection, hashes, older_than_seconds=older_than_seconds)
    return sum(
        _collect(database, store, sha256, older_than_seconds=older_than_seconds)
        for sha256 in hashes
        if sha256 not in kept
    )


def _collect(database: Database, store: BlobStore, sha256: str, *, older_than_seconds: float) -> bool:
    place, aside = store.path_of(sha256), store.discarded / sha256
    try:
        with database.transaction() as connection:
            if not _lock(connection, sha256) or _referred(
                connection, [sha256], older_than_seconds=older_than_seconds
            ):
                return False
            with reached_storage():
                if _is_younger(place, older_than_seconds):
                    return False
                place.replace(aside)
            # Proves that the lock was held until now; see the module.
            is_needed = bool(_referred(connection, [sha256], older_than_seconds=older_than_seconds))
            if is_needed:
                _put_back(place, aside)
    except DatabaseUnavailable:
        _put_back(place, aside)
        raise
    if not is_needed:
        with reached_storage():
            aside.unlink(missing_ok=True)
    return not is_needed


def restore_discarded(database: Database, store: BlobStore, *, older_than_seconds: float) -> int:
    """Finish what a collector began that died: put blobs back that are referred to, delete the others.

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
        with database.transaction() as connection:
            if not _lock(connection, aside.name):
                continue
            if _referred(connection, [aside.name], older_than_seconds=older_than_seconds):
                restored += _put_back(store.path_of(aside.name), aside)
            else:
                with reached_storage():
                    aside.unlink(missing_ok=True)
    return restored


def collect_drafts(store: BlobStore, *, older_than_seconds: float) -> int:
    """Delete the drafts that dead processes left behind and return how many there were.

    Raises:
        StorageUnavailable: If the store cannot be written.
    """
    gone = 0
    with reached_storage():
        for path in store.drafts.iterdir():
            with suppress(FileNotFoundError):
                if not _is_younger(path, older_than_seconds) and _is_left_behind(path):
                    path.unlink()
                    gone += 1
    return gone


def prefixes(store: BlobStore) -> Iterator[str]:
    """Return the beginnings of hashes there are blobs under.

    Raises:
        StorageUnavailable: If the store cannot be read.
    """
    with reached_storage():
        yield from sorted(entry.name for entry in os.scandir(store.root) if _PREFIX.fullmatch(entry.name))


def _lock(connection: Connection, sha256: str) -> bool:
    """Take the exclusive lock, if nobody uploads or collects the same bytes at this moment."""
    return bool(connection.execute(_TRY_LOCK, {"space": _LOCK_SPACE, "sha256": sha256}).scalar_one())


def _referred(connection: Connection, hashes: Sequence[str], *, older_than_seconds: float) -> set[str]:
    """Return those of the hashes that a version refers to of a file that is there, or was a moment ago."""
    is_there = or_(
        FileRow.deleted_at.is_(None),
        FileRow.deleted_at > func.now() - timedelta(seconds=older_than_seconds),
    )
    rows = connection.execute(
        select(FileVersion.blob)
        .join(FileRow, FileRow.id == FileVersion.file_id)
        .where(FileVersion.blob == func.any(list(hashes)), is_there)
    )
    return set(rows.scalars())


def _put_back(place: Path, aside: Path) -> bool:
    """Put a discarded blob back; whatever is in its place by now has the same hash and so the same bytes."""
    with reached_storage(), suppress(FileNotFoundError):
        aside.replace(place)
        return True
    return False


def _is_younger(path: Path, seconds: float) -> bool:
    """Tell whether a file was written later than so long ago; one that is gone counts as such."""
    try:
        return path.stat().st_mtime > time.time() - seconds
    except FileNotFoundError:
        return True


def _changed_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _is_left_behind(draft: Path) -> bool:
    # NFS gives an exclusive lock only to who may write.
    with draft.open("r+b") as file:
        try:
            return lock_file(file.fileno())
        except OSError:
            return False
