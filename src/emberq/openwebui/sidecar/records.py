"""What Open WebUI tells of its files and knowledge bases, as far as emberq reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["IMPORT_MARK", "Knowledge", "Status", "StoredFile", "read_file", "read_knowledge"]

#: `none` is a file that was uploaded without being processed.
Status = Literal["none", "pending", "processing", "completed", "failed"]

#: The key of the client's metadata under which an import leaves its mark: `{"path": …, "sha256": …}`.
IMPORT_MARK = "emberq_import"

_STATUSES: tuple[Status, ...] = ("pending", "processing", "completed", "failed")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as Open WebUI lists it.

    Attributes:
        id: Its id.
        user_id: Whose it is.
        name: Its name.
        status: How far its processing came.
        error: What a failed one says; empty otherwise.
        created_at: When it was uploaded, seconds since 1970.
        updated_at: When its record changed last, seconds since 1970.
        text_hash: sha256 of its text, set once its own chunks are stored; empty before and after a failure.
        bytes_hash: sha256 of its bytes, as uploaded.
        client: What the uploading client said of it.
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
        """The knowledge base it was uploaded for; empty if for none."""
        return str(self.client.get("knowledge_id") or "")

    @property
    def import_path(self) -> str:
        """Its path below the folder that an import brought in; empty if it came another way."""
        return str(_dict(self.client.get(IMPORT_MARK)).get("path") or "")

    @property
    def import_sha256(self) -> str:
        """sha256 of the bytes that an import sent; empty if it came another way."""
        return str(_dict(self.client.get(IMPORT_MARK)).get("sha256") or "")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A knowledge base.

    Attributes:
        id: Its id.
        name: Its name.
        is_external: Whether it only searches somebody else's database.
    """

    id: str
    name: str
    is_external: bool = False


def read_file(record: Mapping[str, Any]) -> StoredFile:
    """Read a file's record, as the listings and `GET /files/{id}` give it; unknown fields are left alone."""
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
    """Read a knowledge base's record."""
    is_external = _dict(record.get("meta")).get("source") == "external"
    return Knowledge(id=str(record["id"]), name=str(record.get("name") or ""), is_external=is_external)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
