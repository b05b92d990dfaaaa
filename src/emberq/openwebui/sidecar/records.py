"""Open WebUI's records of files and knowledge bases, as far as emberq reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: The status of a file; `none` if it was uploaded without processing.
Status = Literal["none", "pending", "processing", "completed", "failed"]

#: Key in the client's metadata of an imported file; its value is `{"path": …, "sha256": …}`.
IMPORT_KEY = "emberq_import"

_STATUSES: tuple[Status, ...] = ("pending", "processing", "completed", "failed")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in Open WebUI.

    Attributes:
        id: Its id.
        user_id: Its owner.
        name: Its name.
        status: The status of its processing.
        error: Error of a failed file; empty otherwise.
        created_at: Time of the upload, seconds since 1970.
        updated_at: Time of the latest change of its record, seconds since 1970.
        text_hash: sha256 of its text, set when its own chunks are stored; empty before and after a failure.
        bytes_hash: sha256 of the uploaded bytes.
        client: Metadata sent by the uploading client.
    """

    id: str
    user_id: str
    name: str
    status: Status
    error: str = ""
    created_at: int = 0
    updated_at: int = 0
    text_hash: str = ""
    bytes_hash: str = ""
    client: Mapping[str, Any] = field(default_factory=dict)

    @property
    def knowledge_id(self) -> str:
        """The knowledge base that it was uploaded for; empty if none."""
        return str(self.client.get("knowledge_id") or "")

    @property
    def import_path(self) -> str:
        """Its path below the imported folder; empty if it was not imported."""
        return str(_dict(self.client.get(IMPORT_KEY)).get("path") or "")

    @property
    def import_sha256(self) -> str:
        """sha256 of the bytes that the import sent; empty if it was not imported."""
        return str(_dict(self.client.get(IMPORT_KEY)).get("sha256") or "")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A knowledge base in Open WebUI.

    Attributes:
        id: Its id.
        name: Its name.
        is_external: Whether it has no files, but searches another database.
    """

    id: str
    name: str
    is_external: bool = False


def read_file(record: Mapping[str, Any]) -> StoredFile:
    """Read a file's record, as the listings and `GET /files/{id}` return it; ignore unknown fields."""
    data, meta = _dict(record.get("data")), _dict(record.get("meta"))
    status = data.get("status")
    return StoredFile(
        id=str(record["id"]),
        user_id=str(record.get("user_id") or ""),
        name=str(record.get("filename") or meta.get("name") or ""),
        status=status if status in _STATUSES else "none",
        error=str(data.get("error") or ""),
        created_at=int(record.get("created_at") or 0),
        updated_at=int(record.get("updated_at") or record.get("created_at") or 0),
        text_hash=str(record.get("hash") or ""),
        bytes_hash=str(meta.get("file_hash") or ""),
        client=_dict(meta.get("data")),
    )


def read_knowledge(record: Mapping[str, Any]) -> Knowledge:
    """Read a knowledge base's record; ignore unknown fields."""
    is_external = _dict(record.get("meta")).get("source") == "external"
    return Knowledge(id=str(record["id"]), name=str(record.get("name") or ""), is_external=is_external)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
