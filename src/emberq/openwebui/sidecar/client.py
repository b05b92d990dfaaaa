"""Open WebUI's REST API, as far as emberq drives it (tested with 0.12.4)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

import httpx

from emberq.errors import Unauthorized
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable
from emberq.openwebui.sidecar.records import Knowledge, StoredFile, read_file, read_knowledge
from emberq.retry.classify import ErrorKind
from emberq.retry.operation import Retrying
from emberq.telemetry.redact import redact_text

__all__ = ["OpenWebUIClient", "classify_answer"]

#: Seconds a connection may take to come about, and a short request to be answered.
_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 120.0
#: Answers of a proxy whose server is away, or slow.
_AWAY = (502, 503, 504)
#: Files per page; the most that the listing gives at once.
_PAGE = 1000
#: Pages of knowledge bases have 30 entries, whatever is asked for.
_KNOWLEDGE_PAGE = 30
#: Seconds by which the server's clock may differ from ours before that is taken into account.
_CLOCK_SECONDS = 3.0
#: Characters of an answer that are quoted.
_QUOTED = 300


def classify_answer(error: BaseException) -> ErrorKind:
    """Say what an error of the client means for another attempt."""
    if not isinstance(error, OpenWebUIUnavailable):
        return ErrorKind.PERMANENT
    return ErrorKind.NOTHING_HAPPENED if error.is_unheard else ErrorKind.UNKNOWN


class OpenWebUIClient:
    """A connection to one Open WebUI; safe to share among threads."""

    def __init__(self, url: str, token: str = "", *, retries: int = 3) -> None:
        """Prepare requests.

        Args:
            url: The server's address, without `/api`.
            token: An API key (`sk-…`) or a session's token; nothing for `sign_in`.
            retries: Attempts after the first one of what may be done twice.
        """
        self.url = url.rstrip("/")
        self._retries = retries
        self._ahead_seconds = 0.0
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        """Use the connection for a block."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self._http.close()

    def sign_in(self, email: str, password: str) -> None:
        """Sign in as a user; later requests are this user's.

        Raises:
            Unauthorized: If the server does not know the pair.
            OpenWebUIUnavailable: If nothing answers.
        """
        answer = self._post("/api/v1/auths/signin", {"email": email, "password": password}, repeat=True)
        self._http.headers["Authorization"] = f"Bearer {answer['token']}"

    # The server.

    def server_time(self) -> float:
        """Return the server's time, by which its files are dated, seconds since 1970."""
        return time.time() + self._ahead_seconds

    def version(self) -> str:
        """Return the server's version, e.g. `0.12.4`."""
        return str(self._get("/api/version").get("version", ""))

    def whoami(self) -> tuple[str, str]:
        """Return the id and the role (`admin`, `user`) of whom the token belongs to.

        Raises:
            Unauthorized: If the token is not valid.
        """
        answer = self._get("/api/v1/auths/")
        return str(answer["id"]), str(answer["role"])

    def retrieval_settings(self) -> dict[str, Any]:
        """Return the document settings by their names in the environment; admins only."""
        return {**self._get("/api/v1/retrieval/config"), **self._get("/api/v1/retrieval/embedding")}

    # Files.

    def files(self, *, own: bool = False, name: str = "*") -> Iterator[StoredFile]:
        """Yield files, newest first: everybody's for an admin, one's own for others.

        The order is that of creation, so that a file whose record changes meanwhile is not missed.

        Args:
            own: Only those of whom the token belongs to.
            name: A name, with `*` and `?` for any characters.
        """
        path = "/api/v1/files/user/search" if own else "/api/v1/files/search"
        seen: set[str] = set()
        for skip in range(0, 1_000_000_000, _PAGE):
            query = {"filename": name, "content": "false", "skip": skip, "limit": _PAGE}
            try:
                page = self._get(path, query)
            except OpenWebUIRefused as exc:
                if exc.answered == httpx.codes.NOT_FOUND:  # how this listing says that it is empty
                    return
                raise
            for record in page:
                if record["id"] not in seen:  # a new upload moves the others on
                    seen.add(record["id"])
                    yield read_file(record)
            if len(page) < _PAGE:
                return

    def file(self, file_id: str) -> StoredFile | None:
        """Return one file, nothing if it is gone."""
        record = self._file_record(file_id)
        return None if record is None else read_file(record)

    def text_of(self, file_id: str) -> str:
        """Return the text that was extracted from a file; empty before that."""
        record = self._file_record(file_id) or {}
        return str((record.get("data") or {}).get("content") or "")

    def status_of(self, file_id: str) -> str:
        """Return a file's status; a small answer, for those who ask often."""
        return str(self._get(f"/api/v1/files/{file_id}/process/status")["status"])

    def upload(self, path: Path, name: str, client: dict[str, Any]) -> StoredFile:
        """Upload a file to be processed in the background; never tried again here.

        Args:
            path: Where its bytes are.
            name: Its name in Open WebUI.
            client: The client's metadata; with `knowledge_id`, the server links the file when it is done.

        Raises:
            OpenWebUIUnavailable: If no answer came; unless `is_unheard`, the file may be there.
            OpenWebUIRefused: If the server does not take it.
            OSError: If the file cannot be read.
        """
        with path.open("rb") as file:
            answer = self._request(
                "POST",
                "/api/v1/files/",
                files={"file": (name, file)},
                data={"metadata": json.dumps(client)},
            )
        return read_file(answer)

    def process(self, file_id: str, text: str | None = None) -> None:
        """Extract and index a file again and wait for its end, however long that takes.

        Chunks of its own that are there already are kept, unless a text is given.

        Args:
            file_id: The file.
            text: Its text, to be indexed in place of what extraction gives.
        """
        body = {"file_id": file_id} | ({} if text is None else {"content": text})
        self._post("/api/v1/retrieval/process/file", body, seconds=None)

    def has_chunks(self, file_id: str) -> bool:
        """Tell whether a search in a file's own chunks finds anything."""
        body = {"collection_name": f"file-{file_id}", "query": "text", "k": 1, "hybrid": False}
        found = self._post("/api/v1/retrieval/query/doc", body, repeat=True)
        return bool(found and any(found.get("documents") or []))

    def delete_file(self, file_id: str) -> None:
        """Delete a file with its chunks; one that is gone already is no error."""
        try:
            self._request("DELETE", f"/api/v1/files/{file_id}", repeat=True)
        except OpenWebUIRefused as exc:
            if exc.answered != httpx.codes.NOT_FOUND:
                raise

    # Knowledge bases.

    def knowledge_named(self, name: str) -> list[Knowledge]:
        """Return the knowledge bases of exactly this name or id."""
        found: dict[str, Knowledge] = {}
        for page in range(1, 1_000_000):
            items = self._get("/api/v1/knowledge/search", {"query": name, "page": page})["items"]
            found |= {one["id"]: read_knowledge(one) for one in items if one["name"] == name}
            if len(items) < _KNOWLEDGE_PAGE:
                break
        if not found and _looks_like_an_id(name):
            try:
                one = read_knowledge(self._get(f"/api/v1/knowledge/{name}"))
            except (OpenWebUIRefused, Unauthorized):
                return []
            found[one.id] = one
        return list(found.values())

    def create_knowledge(self, name: str) -> Knowledge:
        """Make a knowledge base."""
        return read_knowledge(
            self._post("/api/v1/knowledge/create", {"name": name, "description": "", "access_grants": []})
        )

    def files_in(self, knowledge_id: str) -> Iterator[StoredFile]:
        """Yield the files that are linked to a knowledge base, oldest first."""
        seen: set[str] = set()
        for page in range(1, 1_000_000):
            query = {"page": page, "limit": _PAGE, "order_by": "created_at", "direction": "asc"}
            answer = self._get(f"/api/v1/knowledge/{knowledge_id}/files", query)
            for record in answer["items"]:
                if record["id"] not in seen:
                    seen.add(record["id"])
                    yield read_file(record)
            # The server gives less than was asked for to others than admins.
            if not answer["items"] or len(seen) >= answer["total"]:
                return

    def link(self, knowledge_id: str, file_id: str) -> None:
        """Put a processed file into a knowledge base and index it there.

        What the knowledge base already has of the file stays; see `relink`.
        """
        self._post(f"/api/v1/knowledge/{knowledge_id}/file/add", {"file_id": file_id}, seconds=None)

    def relink(self, knowledge_id: str, file_id: str) -> None:
        """Index a linked file anew in its knowledge base, in place of what is there of it."""
        path = f"/api/v1/knowledge/{knowledge_id}/file/update"
        self._post(path, {"file_id": file_id}, seconds=None, repeat=True)

    # Requests.

    def _file_record(self, file_id: str) -> dict[str, Any] | None:
        try:
            return dict(self._get(f"/api/v1/files/{file_id}"))
        except OpenWebUIRefused as exc:
            if exc.answered == httpx.codes.NOT_FOUND:
                return None
            raise

    def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        return self._request("GET", path, params=query, repeat=True)

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        *,
        seconds: float | None = _ANSWER_SECONDS,
        repeat: bool = False,
    ) -> Any:
        timeout = httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        return self._request("POST", path, json=body, timeout=timeout, repeat=repeat)

    def _request(self, method: str, path: str, *, repeat: bool = False, **options: Any) -> Any:
        """Send a request and return the JSON of its answer; `repeat` if twice is the same as once."""
        if not repeat:
            return self._send(method, path, **options)
        retrying = Retrying(classify_answer, "openwebui", idempotent=True, max_retries=self._retries)
        return retrying(self._send)(method, path, **options)

    def _send(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as exc:
            raise OpenWebUIUnavailable(
                f"Open WebUI does not answer at {self.url}: {str(exc) or type(exc).__name__}.",
                is_unheard=isinstance(exc, (httpx.ConnectError, httpx.ConnectTimeout)),
            ) from exc
        if "date" in response.headers:
            ahead = parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
            # The header has whole seconds, and the answer was under way.
            self._ahead_seconds = ahead if abs(ahead) > _CLOCK_SECONDS else 0.0
        if response.status_code in _AWAY:
            raise OpenWebUIUnavailable(f"Open WebUI answered {response.status_code} at {self.url}.")
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise OpenWebUIUnavailable(
                f"Open WebUI at {self.url} was asked too often.",
                hint="Wait three minutes; a key does not have to sign in (EMBERQ_OPENWEBUI_API_KEY).",
                is_unheard=True,
            )
        if response.is_error:
            raise _refusal(response)
        try:
            return response.json()
        except ValueError as exc:
            raise OpenWebUIRefused(
                f"{self.url}{path} answered something that is not Open WebUI's.",
                hint="Check --url or EMBERQ_OPENWEBUI_URL: it is the address of the web page, without /api.",
            ) from exc


def _looks_like_an_id(name: str) -> bool:
    return len(name) == len("8c5bfb0c-7f42-4f0e-9c38-6d2ac3a53d9c") and name.count("-") == 4  # noqa: PLR2004


def _refusal(response: httpx.Response) -> OpenWebUIRefused | Unauthorized:
    try:
        detail = response.json().get("detail")
    except (ValueError, AttributeError):
        detail = response.text
    said = redact_text(detail if isinstance(detail, str) else json.dumps(detail))[:_QUOTED]
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Unauthorized(
            f"Open WebUI refused the key or the account: {said}",
            hint="Check EMBERQ_OPENWEBUI_API_KEY, or the email and password, and what the account may do.",
        )
    return OpenWebUIRefused(
        said or f"Open WebUI answered {response.status_code}.", answered=response.status_code
    )
