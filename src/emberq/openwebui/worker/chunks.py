"""The chunks of a file in Open WebUI's vector store, replaced instead of added to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from emberq.openwebui.worker.file_attempt import FileAttempt
from emberq.openwebui.worker.rows import retry_open_webui

#: Ids deleted by one statement.
_MAX_IDS = 1000


class ReplacingVectorClient:
    """A vector client that replaces a file's chunks in a collection."""

    def __init__(self, client: Any, attempt: FileAttempt) -> None:
        self._client = client
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def has_collection(self, collection_name: str) -> bool:
        """Return False for the file's own collection: Open WebUI skips a file whose collection exists."""
        if collection_name == f"file-{self._attempt.file_id}":
            return False
        return bool(self._client.has_collection(collection_name=collection_name))

    def insert(self, collection_name: str, items: list[dict[str, Any]]) -> None:
        """Insert the new chunks, then delete the old ones.

        Raises:
            Cancelled: If the attempt does not own its file any more.
            Exception: The errors of the vector store's driver.
        """
        attempt = self._attempt
        ids = [item["id"] for item in items]
        with attempt.recording_failure():
            attempt.report(0, len(items), "storing")
            attempt.check_owner(now=True)
            for tried in retry_open_webui("store_chunks"):
                with tried:
                    old = find_chunk_ids(self._client, collection_name, attempt.file_id)
                    if tried.num > 1:
                        # The last try may have inserted them and lost the answer.
                        delete_chunks(self._client, collection_name, sorted(old & set(ids)))
                    self._client.insert(collection_name=collection_name, items=items)
            for tried in retry_open_webui("replace_chunks"):
                with tried:
                    delete_chunks(self._client, collection_name, sorted(old - set(ids)))
        attempt.chunks += len(items)
        attempt.report(len(items), len(items), "storing")


def find_chunk_ids(client: Any, collection_name: str, file_id: str) -> set[str]:
    """Return the ids of a file's chunks in a collection.

    Raises:
        Exception: The errors of the vector store's driver, unless the client hides them.
    """
    table = getattr(client, "session", None) and _pgvector_table(client)
    if table is not None:
        try:
            rows = client.session.execute(
                select(table.id).where(
                    table.collection_name == collection_name, table.vmetadata["file_id"].astext == file_id
                )
            ).all()
            return {row.id for row in rows}
        finally:
            client.session.rollback()
    found = client.query(collection_name=collection_name, filter={"file_id": file_id})
    return set(found.ids[0]) if found and found.ids else set()


def delete_chunks(client: Any, collection_name: str, ids: Sequence[str]) -> None:
    """Delete chunks by their ids."""
    for start in range(0, len(ids), _MAX_IDS):
        client.delete(collection_name=collection_name, ids=list(ids[start : start + _MAX_IDS]))


def _pgvector_table(client: Any) -> Any:
    """Return pgvector's table, in which ids are read without vectors and texts; None for other stores."""
    module = sys.modules.get(type(client).__module__)
    table = getattr(module, "DocumentChunk", None)
    return None if table is None or getattr(module, "PGVECTOR_PGCRYPTO", False) else table
