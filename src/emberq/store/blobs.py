"""File bytes on disk, addressed by their sha256: written whole and durably, or not at all."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from emberq.errors import BlobMissing, SettingInvalid

__all__ = ["BlobStore", "BlobWriter", "StoredBlob", "open_blob_store"]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes that are safely on disk.

    Attributes:
        sha256: Their hash, in hex; also their name in the store.
        size: How many there are.
    """

    sha256: str
    size: int


class BlobWriter:
    """Receive one file piece by piece; `commit` makes it durable, else the block's end discards it."""

    def __init__(self, store: BlobStore) -> None:
        """Start a draft in the store's own file system, so that the rename at the end is atomic."""
        self._store = store
        self._draft = store.drafts / uuid.uuid4().hex
        self._file: BinaryIO = self._draft.open("xb")
        self._hash = hashlib.sha256()
        #: Bytes received so far.
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add the next bytes."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def commit(self) -> StoredBlob:
        """Flush to disk, move into place, and only then say where; the same bytes are stored once."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        blob = StoredBlob(self._hash.hexdigest(), self.size)
        target = self._store.path_of(blob.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._draft.replace(target)
        for directory in (target.parent, target.parent.parent):
            _sync_directory(directory)
        return blob

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)


class BlobStore:
    """A directory of blobs: `ab/cd…`; drafts lie apart and never count as files."""

    def __init__(self, root: Path) -> None:
        """Open the store, making its directories when they are missing."""
        self.root = root
        self.drafts = root / "drafts"
        self.drafts.mkdir(parents=True, exist_ok=True)

    def path_of(self, sha256: str) -> Path:
        """Return where the bytes with this hash lie or would lie."""
        return self.root / sha256[:2] / sha256[2:]

    def existing(self, sha256: str) -> Path:
        """Return the path of stored bytes.

        Raises:
            BlobMissing: If they are gone.
        """
        path = self.path_of(sha256)
        if not path.is_file():
            raise BlobMissing("The stored bytes of the file are gone from the blob store.")
        return path

    def writer(self) -> BlobWriter:
        """Start receiving a new file."""
        return BlobWriter(self)


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


def _sync_directory(path: Path) -> None:
    """Make a rename in the directory durable (fsync(2): a new name is data of its directory)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
