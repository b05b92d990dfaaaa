"""The blob store: the bytes of files on disk, named by their sha256, stored completely or not at all."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from emberq.errors import BlobMissing, SettingInvalid, StorageUnavailable
from emberq.system.file_lock import lock_file
from emberq.system.files import sync_directory


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes that are durably on disk.

    Attributes:
        sha256: Their hash, in hex; also their name in the store.
        size: Number of bytes.
    """

    sha256: str
    size: int


class BlobWriter:
    """Receives one file piece by piece; without `publish` or `commit` the end of the block discards it.

    An upload seals first, and publishes in the transaction that writes the file's row: see
    `emberq.store.files.blob_gc`.
    """

    def __init__(self, store: BlobStore) -> None:
        """Start a draft in the store's own file system, so that the rename at the end is atomic.

        Raises:
            StorageUnavailable: If the store takes no new file.
        """
        self._store = store
        self._draft = store.drafts / uuid.uuid4().hex
        with reached_storage():
            self._file = self._draft.open("xb", buffering=0)
        # Locked until this process ends: the lock distinguishes its drafts from those of dead processes.
        # On a file system without locks the drafts of dead processes stay.
        with suppress(OSError):
            lock_file(self._file.fileno(), shared=True)
        self._hash = hashlib.sha256()
        self._is_published = False
        #: Bytes received so far.
        self.size = 0

    @property
    def sha256(self) -> str:
        """The hash of the bytes received so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Add the next bytes.

        Raises:
            StorageUnavailable: If the disk is full, or the store is gone.
        """
        left = memoryview(data)
        with reached_storage():
            while left:
                left = left[self._file.write(left) :]
        self._hash.update(data)
        self.size += len(data)

    def seal(self) -> StoredBlob:
        """Make the draft's bytes durable and return their hash and size.

        Raises:
            StorageUnavailable: If the disk is full, or the store is gone.
        """
        with reached_storage():
            # Starts the grace period of garbage collection, however slowly the bytes came.
            os.utime(self._file.fileno())
            os.fsync(self._file.fileno())
        return StoredBlob(self.sha256, self.size)

    def publish(self) -> None:
        """Move the sealed bytes to their place, over equal ones if there are any.

        A second call, in a retried transaction, restarts the grace period of the published bytes.

        Raises:
            BlobMissing: If the bytes were garbage-collected before the second call.
            StorageUnavailable: If the disk is full, or the store is gone.
        """
        target = self._store.path_of(self.sha256)
        if self._is_published:
            path = self._store.existing(self.sha256)
            with reached_storage():
                os.utime(path)
            return
        with reached_storage():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._draft.replace(target)
            self._is_published = True
            for directory in (target.parent, target.parent.parent):
                sync_directory(directory)

    def commit(self) -> StoredBlob:
        """Seal and publish at once.

        Raises:
            StorageUnavailable: If the disk is full, or the store is gone.
        """
        blob = self.seal()
        self.publish()
        return blob

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A draft that cannot be removed now is garbage-collected later.
        with suppress(OSError):
            self._draft.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()


class BlobStore:
    """A directory of blobs: `ab/cd…`; drafts and discarded blobs are in directories of their own."""

    def __init__(self, root: Path) -> None:
        """Open the store, and make its directories if they are missing.

        Raises:
            StorageUnavailable: If the directories cannot be made.
        """
        self.root = root
        self.drafts = root / "drafts"
        #: Blobs that are being garbage-collected.
        self.discarded = root / "discarded"
        with reached_storage():
            for directory in (self.drafts, self.discarded):
                directory.mkdir(parents=True, exist_ok=True)

    def path_of(self, sha256: str) -> Path:
        """Return the path of the bytes with this hash, whether they exist or not."""
        return self.root / sha256[:2] / sha256[2:]

    def existing(self, sha256: str) -> Path:
        """Return the path of stored bytes.

        Raises:
            BlobMissing: If the bytes are gone.
            StorageUnavailable: If the whole store is gone, as when its disk is not mounted.
        """
        path = self.path_of(sha256)
        with reached_storage():
            if path.is_file():
                return path
            self.drafts.stat()
        raise BlobMissing("The stored bytes of the file are gone from the blob store.")

    def check(self) -> None:
        """Write a draft, to see whether the store works.

        Raises:
            StorageUnavailable: If the store takes no new file.
        """
        with self.writer() as writer:
            writer.write(b"?")

    def writer(self) -> BlobWriter:
        """Start receiving a new file."""
        return BlobWriter(self)


@contextmanager
def reached_storage() -> Iterator[None]:
    """Convert errors of the operating system into `StorageUnavailable`.

    Raises:
        StorageUnavailable: If the block meets an error of the operating system.
    """
    try:
        yield
    except OSError as exc:
        # Without the path: the message may be sent to a client.
        raise StorageUnavailable(f"The blob store does not work: {os.strerror(exc.errno or 0)}.") from exc


def open_blob_store(url: str | None, data_dir: Path) -> BlobStore:
    """Open the store of `EMBERQ_BLOB_URL`, by default `blobs` in the data directory.

    Raises:
        SettingInvalid: If the URL is not of a kind this version can use.
    """
    if not url:
        return BlobStore(data_dir / "blobs")
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise SettingInvalid(
            f"EMBERQ_BLOB_URL of the kind {parts.scheme!r} is not supported.",
            hint="Use file:///path on a file system that the API and the workers share.",
        )
    return BlobStore(Path(unquote(parts.path)))
