from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from emberq.errors import BlobMissing, SettingInvalid
from emberq.store.files.blobs import BlobStore, open_blob_store


def test_bytes_come_back_and_are_named_by_their_hash(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with store.writer() as writer:
        for part in (b"one ", b"two"):
            writer.write(part)
        blob = writer.commit()
    assert blob.sha256 == hashlib.sha256(b"one two").hexdigest()
    assert blob.size == 7
    assert store.existing(blob.sha256).read_bytes() == b"one two"


def test_an_upload_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with store.writer() as writer:
        writer.write(b"half")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    for _ in range(2):
        with store.writer() as writer:
            writer.write(b"same")
            writer.commit()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_missing_bytes_have_their_own_error(tmp_path: Path) -> None:
    with pytest.raises(BlobMissing):
        BlobStore(tmp_path).existing("0" * 64)


def test_a_blob_url_of_another_kind_is_refused_with_a_next_step(tmp_path: Path) -> None:
    assert open_blob_store(f"file://{tmp_path}/with%20space", tmp_path).root == tmp_path / "with space"
    with pytest.raises(SettingInvalid, match="s3"):
        open_blob_store("s3://bucket", tmp_path)
