"""Open WebUI's REST API, as far as emberq uses it (tested with 0.12.4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from emberq.errors import Unauthorized
from emberq.openwebui.sidecar.errors import OpenWebUIRefused
from emberq.openwebui.sidecar.records import Knowledge, StoredFile, read_file, read_knowledge
from emberq.openwebui.sidecar.transport import OpenWebUITransport

#: Files per page; the server's upper limit.
_PAGE = 1000
#: Knowledge bases per page; fixed by the server.
_KNOWLEDGE_PAGE = 30
#: Pages after which a listing ends; the server ends every listing long before.
_MAX_PAGES = 1_000_000


class OpenWebUIClient(OpenWebUITransport):
    """Open WebUI's REST API; thread-safe.

    Every method raises `OpenWebUIUnavailable`, `OpenWebUIRefused` or `Unauthorized` if its request fails.
    """

    # The server.

    def sign_in(self, email: str, password: str) -> None:
        """Sign in; later requests are sent as this user."""
        body = {"email": email, "password": password}
        self.authorize(str(self.post("/api/v1/auths/signin", body, may_repeat=True)["token"]))

    def version(self) -> str:
        """Return the server's version, e.g. `0.12.4`."""
        return str(self.get("/api/version").get("version", ""))

    def whoami(self) -> tuple[str, str]:
        """Return the id and the role (`admin`, `user`) of the token's user."""
        answer = self.get("/api/v1/auths/")
        return str(answer["id"]), str(answer["role"])

    def retrieval_settings(self) -> dict[str, Any]:
        """Return the document settings, named as in the environment; admins only."""
        return {**self.get("/api/v1/retrieval/config"), **self.get("/api/v1/retrieval/embedding")}

    # Files.

    def files(self, *, own: bool = False, name: str = "*") -> Iterator[StoredFile]:
        """Yield files, newest first: those of all users for an admin, the user's own for others.

        The listing is ordered by creation, so a file that changes during the listing is not missed.

        Args:
            own: Only files of the token's user.
            name: A file name; `*` and `?` match any characters.
        """
        path = "/api/v1/files/user/search" if own else "/api/v1/files/search"
        seen: set[str] = set()
        for page_number in range(_MAX_PAGES):
            query = {"filename": name, "content": "false", "skip": page_number * _PAGE, "limit": _PAGE}
            try:
                page = self.get(path, query)
            except OpenWebUIRefused as exc:
                if exc.http_status == httpx.codes.NOT_FOUND:  # the answer of an empty listing
                    return
                raise
            for record in page:
                if record["id"] not in seen:  # a new upload moves the others to the next page
                    seen.add(record["id"])
                    yield read_file(record)
            if len(page) < _PAGE:
                return

    def file(self, file_id: str) -> StoredFile | None:
        """Return a file; None if it does not exist."""
        record = self._file_record(file_id)
        return None if record is None else read_file(record)

    def text_of(self, file_id: str) -> str:
        """Return a file's extracted text; empty before the extraction."""
        record = self._file_record(file_id) or {}
        return str((record.get("data") or {}).get("content") or "")

    def status_of(self, file_id: str) -> str:
        """Return a file's status; cheaper than `file` for polling."""
        return str(self.get(f"/api/v1/files/{file_id}/process/status")["status"])

    def upload(self, path: Path, name: str, client: dict[str, Any]) -> StoredFile:
        """Upload a file to be processed in the background; the request is not repeated.

        Args:
            path: The file.
            name: Its name in Open WebUI.
            client: The client's metadata; with `knowledge_id`, the server links the processed file.

        Raises:
            OpenWebUIUnavailable: If no answer came; unless `had_no_effect`, the file may be stored.
            OSError: If the file cannot be read.
        """
        with path.open("rb") as file:
            answer = self.request(
                "POST",
                "/api/v1/files/",
                files={"file": (name, file)},
                data={"metadata": json.dumps(client)},
            )
        return read_file(answer)

    def process(self, file_id: str, text: str | None = None) -> None:
        """Extract and index a file again; return at the end of the processing, without a time limit.

        The server keeps the chunks in the file's own collection, unless a text is given.

        Args:
            file_id: The file.
            text: Indexed in place of the extracted text.
        """
        body = {"file_id": file_id} | ({} if text is None else {"content": text})
        self.post("/api/v1/retrieval/process/file", body, seconds=None)

    def has_chunks(self, file_id: str) -> bool:
        """Return whether a search in the file's own collection finds anything."""
        body = {"collection_name": f"file-{file_id}", "query": "text", "k": 1, "hybrid": False}
        found = self.post("/api/v1/retrieval/query/doc", body, may_repeat=True)
        return bool(found and any(found.get("documents") or []))

    def delete_file(self, file_id: str) -> None:
        """Delete a file and its chunks, if it exists."""
        try:
            self.request("DELETE", f"/api/v1/files/{file_id}", may_repeat=True)
        except OpenWebUIRefused as exc:
            if exc.http_status != httpx.codes.NOT_FOUND:
                raise

    # Knowledge bases.

    def knowledge_named(self, name: str) -> list[Knowledge]:
        """Return the knowledge bases with exactly this name, or the one with this id."""
        found: dict[str, Knowledge] = {}
        for page_number in range(1, _MAX_PAGES):
            items = self.get("/api/v1/knowledge/search", {"query": name, "page": page_number})["items"]
            found |= {item["id"]: read_knowledge(item) for item in items if item["name"] == name}
            if len(items) < _KNOWLEDGE_PAGE:
                break
        if not found and _is_uuid(name):
            try:
                knowledge = read_knowledge(self.get(f"/api/v1/knowledge/{name}"))
            except (OpenWebUIRefused, Unauthorized):
                return []
            found[knowledge.id] = knowledge
        return list(found.values())

    def create_knowledge(self, name: str) -> Knowledge:
        """Create a knowledge base."""
        return read_knowledge(
            self.post("/api/v1/knowledge/create", {"name": name, "description": "", "access_grants": []})
        )

    def files_in(self, knowledge_id: str) -> Iterator[StoredFile]:
        """Yield the files linked to a knowledge base, oldest first."""
        seen: set[str] = set()
        for page_number in range(1, _MAX_PAGES):
            query = {"page": page_number, "limit": _PAGE, "order_by": "created_at", "direction": "asc"}
            answer = self.get(f"/api/v1/knowledge/{knowledge_id}/files", query)
            for record in answer["items"]:
                if record["id"] not in seen:
                    seen.add(record["id"])
                    yield read_file(record)
            # For users who are not admins the server's pages are smaller than the limit.
            if not answer["items"] or len(seen) >= answer["total"]:
                return

    def link(self, knowledge_id: str, file_id: str) -> None:
        """Link a processed file to a knowledge base and index it there.

        Chunks of the file that the knowledge base already has are kept; `relink` replaces them.
        """
        self.post(f"/api/v1/knowledge/{knowledge_id}/file/add", {"file_id": file_id}, seconds=None)

    def relink(self, knowledge_id: str, file_id: str) -> None:
        """Index a linked file again and replace its chunks in the knowledge base."""
        path = f"/api/v1/knowledge/{knowledge_id}/file/update"
        self.post(path, {"file_id": file_id}, seconds=None, may_repeat=True)

    def _file_record(self, file_id: str) -> dict[str, Any] | None:
        try:
            return dict(self.get(f"/api/v1/files/{file_id}"))
        except OpenWebUIRefused as exc:
            if exc.http_status == httpx.codes.NOT_FOUND:
                return None
            raise


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
