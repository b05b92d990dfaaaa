"""From whatever was raised to a code and a sentence that a user can be shown."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from emberq.errors import Cancelled
from emberq.openwebui.worker.failures import clean, failure_from


class RouteError(Exception):
    """As FastAPI's HTTPException, which Open WebUI raises in the handler of the real error."""

    def __init__(self, status_code: int, detail: str) -> None:
        super().__init__(f"{status_code}: {detail}")
        self.status_code, self.detail = status_code, detail


def _raised(inner: Exception, status: int = 400) -> Exception:
    try:
        try:
            raise inner
        except type(inner) as exc:
            raise RouteError(status, str(exc))  # noqa: B904 - as Open WebUI does
    except RouteError as exc:
        return exc


def _code(error: BaseException, stage: str = "extracting") -> tuple[str, bool]:
    named = failure_from(error, stage=stage, duplicate_content="Duplicate content", empty_content="is empty")
    return named.code, named.retryable


def test_one_of_ours_is_found_below_open_webuis() -> None:
    assert _code(_raised(Cancelled())) == ("cancelled", False)


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (_raised(ValueError("Duplicate content detected.")), "idempotency_conflict", False),
        (_raised(ValueError("The content provided is empty.")), "no_text_found", False),
        (RouteError(403, "no"), "forbidden", False),
        (RouteError(404, "no"), "forbidden", False),
        (_raised(FileNotFoundError("/data/uploads/x")), "blob_missing", False),
        (_raised(Exception("Error loading document: 422 It is encrypted.")), "corrupt_file", False),
        (_raised(Exception("Error loading document: 503 Busy.")), "extraction_crashed", True),
        (_raised(RuntimeError("no such table in the page")), "corrupt_file", False),
    ],
)
def test_what_open_webui_raises_has_a_name(error: Exception, code: str, retryable: bool) -> None:
    assert _code(error) == (code, retryable)


def test_a_database_that_is_away_is_worth_another_attempt() -> None:
    broken = OperationalError("SELECT 1", {}, ConnectionRefusedError("refused"))
    assert _code(_raised(broken), "storing") == ("database_unavailable", True)


def test_a_server_that_refuses_connections_is_no_database() -> None:
    refused = httpx.ConnectError("refused")
    refused.__cause__ = ConnectionRefusedError()
    assert _code(_raised(refused)) == ("extraction_crashed", True)


def test_the_loaders_own_words_are_shown_without_secrets() -> None:
    error = _raised(Exception("Error loading document: 400 bad token s3cr3t-value at http://u:p@host/x?k=1"))
    named = failure_from(error, stage="extracting", secrets={"s3cr3t-value"})
    assert named.message == "The document loader refused the file (HTTP 400). bad token *** at (address)"


def test_long_words_are_cut() -> None:
    assert len(clean("x" * 1000)) == 200
