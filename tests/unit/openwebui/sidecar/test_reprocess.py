"""One more attempt at a file: what is requested, and how the attempt is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emberq.errors import EmberqError, Unauthorized
from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable
from emberq.openwebui.sidecar.records import StoredFile
from emberq.openwebui.sidecar.reprocess import reprocess

FAILED = StoredFile("f", "u", "a.pdf", "failed")
PROCESS, LINK = "/api/v1/retrieval/process/file", "/api/v1/knowledge/k/file/add"
RELINK = "/api/v1/knowledge/k/file/update"


class Server(OpenWebUIClient):
    """A client whose server is a table of answers.

    Attributes:
        long_requests: Paths of the requests that change something, in order.
        has_stored_chunks: Whether a search in the file's collection finds anything.
        errors: Errors by path.
    """

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.long_requests: list[str] = []
        self.has_stored_chunks = True
        self.errors: dict[str, EmberqError] = {}

    def request(self, method: str, path: str, *, may_repeat: bool = False, **options: Any) -> Any:
        if path in self.errors:
            raise self.errors[path]
        if path == "/api/v1/retrieval/query/doc":
            return {"documents": [["text"]] if self.has_stored_chunks else []}
        if method == "GET":
            return {"id": "f", "data": {"content": "text"}}
        self.long_requests.append(path)
        return {}


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_file_is_processed_and_linked(server: Server) -> None:
    attempts, error = reprocess(server, FAILED, Attempts(), knowledge_id="k")
    assert server.long_requests == [PROCESS, LINK]
    assert error is None
    assert (attempts.count, attempts.is_open) == (1, False)


def test_an_empty_collection_is_filled(server: Server) -> None:
    server.has_stored_chunks = False
    reprocess(server, FAILED, Attempts())
    assert server.long_requests == [PROCESS, PROCESS]


def test_a_processed_file_is_only_linked(server: Server) -> None:
    reprocess(server, replace(FAILED, status="completed"), Attempts(), knowledge_id="k")
    assert server.long_requests == [LINK]


@pytest.mark.parametrize(
    ("file", "past"), [(FAILED, Attempts(1, 1.0, 2.0)), (replace(FAILED, text_hash="x"), Attempts())]
)
def test_chunks_of_an_earlier_attempt_are_replaced(server: Server, file: StoredFile, past: Attempts) -> None:
    reprocess(server, file, past, knowledge_id="k")
    assert server.long_requests == [PROCESS, LINK, RELINK]


def test_an_attempt_is_saved_before_each_long_request(server: Server) -> None:
    saved: list[tuple[int, bool, int]] = []

    def save(attempts: Attempts) -> None:
        saved.append((attempts.count, attempts.is_open, len(server.long_requests)))

    reprocess(server, FAILED, Attempts(1, 1.0, 2.0), knowledge_id="k", save=save)
    assert saved == [(2, True, 0), (2, True, 1), (2, True, 2)]


@pytest.mark.parametrize(
    ("error", "is_counted", "is_open"),
    [
        (OpenWebUIUnavailable("cut off"), True, True),
        (OpenWebUIUnavailable("refused the connection", had_no_effect=True), False, False),
        (OpenWebUIRefused("damaged"), True, False),
        (Unauthorized(), True, False),
    ],
)
def test_an_error_tells_whether_the_attempt_counts_and_has_ended(
    server: Server, error: EmberqError, is_counted: bool, is_open: bool
) -> None:
    server.errors[PROCESS] = error
    past = Attempts(1, 1.0, 2.0)
    attempts, raised = reprocess(server, FAILED, past, knowledge_id="k")
    assert raised is error
    assert attempts.count == (2 if is_counted else 1)
    assert attempts.is_open is is_open
    assert attempts.knowledge_id == "k"
