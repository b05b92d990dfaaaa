"""A file's chunks in a vector store are replaced, not added to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from emberq.errors import Cancelled
from emberq.openwebui.worker.chunks import ReplacingVectorClient, find_chunk_ids
from emberq.openwebui.worker.file_attempt import FileAttempt
from emberq.openwebui.worker.rows import OpenWebUIFileRows


class Store:
    """A vector store in memory, with the methods of Open WebUI's clients.

    Attributes:
        chunks: File ids by collection and chunk id.
        log: The changes, in order.
        lost_answers: Inserts that are done but answered with an error.
    """

    def __init__(self) -> None:
        self.chunks: dict[tuple[str, str], str] = {}
        self.log: list[str] = []
        self.lost_answers = 0

    def query(self, *, collection_name: str, filter: dict[str, str]) -> Any:  # noqa: A002 - its name
        found = [
            chunk_id
            for (name, chunk_id), file_id in self.chunks.items()
            if (name, file_id) == (collection_name, filter["file_id"])
        ]
        return SimpleNamespace(ids=[found])

    def has_collection(self, *, collection_name: str) -> bool:
        return any(name == collection_name for name, _ in self.chunks)

    def insert(self, *, collection_name: str, items: list[dict[str, Any]]) -> None:
        self.log.append("insert")
        for item in items:
            assert (collection_name, item["id"]) not in self.chunks
            self.chunks[collection_name, item["id"]] = item["metadata"]["file_id"]
        if self.lost_answers:
            self.lost_answers -= 1
            raise ConnectionResetError

    def delete(self, *, collection_name: str, ids: list[str]) -> None:
        self.log.append("delete")
        for chunk_id in ids:
            del self.chunks[collection_name, chunk_id]


class Rows(OpenWebUIFileRows):
    """Rows of which the attempt `one` owns the file `f`, until `is_lost` is set."""

    def __init__(self) -> None:
        self.is_lost = False

    def check_owner(self, file_id: str, attempt_id: str) -> None:
        if self.is_lost:
            raise Cancelled(file_id=file_id)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def attempt() -> FileAttempt:
    return FileAttempt("one", "f", Rows())


def items(*ids: str) -> list[dict[str, Any]]:
    return [{"id": chunk_id, "metadata": {"file_id": "f"}} for chunk_id in ids]


def test_new_chunks_are_stored_before_old_ones_are_deleted(store: Store, attempt: FileAttempt) -> None:
    store.chunks = {("k", "old"): "f", ("k", "other"): "another file", ("j", "elsewhere"): "f"}
    ReplacingVectorClient(store, attempt).insert("k", items("a", "b"))
    assert store.log == ["insert", "delete"]
    assert find_chunk_ids(store, "k", "f") == {"a", "b"}
    assert find_chunk_ids(store, "j", "f") == {"elsewhere"}
    assert find_chunk_ids(store, "k", "another file") == {"other"}
    assert attempt.chunks == 2


def test_a_lost_answer_leaves_one_set_of_chunks(store: Store, attempt: FileAttempt) -> None:
    store.chunks, store.lost_answers = {("k", "old"): "f"}, 1
    ReplacingVectorClient(store, attempt).insert("k", items("a", "b"))
    assert find_chunk_ids(store, "k", "f") == {"a", "b"}


def test_an_attempt_that_lost_its_file_stores_nothing(store: Store, attempt: FileAttempt) -> None:
    assert isinstance(attempt.rows, Rows)
    attempt.rows.is_lost = True
    with pytest.raises(Cancelled):
        ReplacingVectorClient(store, attempt).insert("k", items("a"))
    assert store.log == []
    assert isinstance(attempt.failure, Cancelled)


def test_a_cancelled_attempt_does_not_record_that_as_its_failure(store: Store, attempt: FileAttempt) -> None:
    attempt.cancel()
    with pytest.raises(Cancelled):
        ReplacingVectorClient(store, attempt).insert("k", items("a"))
    assert attempt.failure is None


def test_only_the_files_own_collection_is_hidden(store: Store, attempt: FileAttempt) -> None:
    store.chunks = {("file-f", "a"): "f", ("k", "b"): "f"}
    client = ReplacingVectorClient(store, attempt)
    assert not client.has_collection("file-f")
    assert client.has_collection("k")
