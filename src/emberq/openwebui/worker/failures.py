"""Translation of an attempt's error into one of ours, whose message the file's user is shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rq.timeouts import JobTimeoutException

from emberq.errors import (
    BlobMissing,
    CorruptFile,
    DatabaseUnavailable,
    EmberqError,
    ExtractionCrashed,
    Forbidden,
    IdempotencyConflict,
    InternalError,
    JobTimeout,
    NoTextFound,
    causes,
)
from emberq.openwebui.worker.rows import classify_error
from emberq.retry.classify import ErrorKind
from emberq.telemetry.redact import redact_text

#: HTTP statuses of a server that is busy or away; another attempt may succeed.
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Characters of a foreign message that are shown.
_MAX_CHARACTERS = 200
#: Open WebUI's message for an error answer of an external document loader: its status and its text.
_LOADER_ANSWER = re.compile(r"Error loading document: (\d{3})\s*(.*)", re.DOTALL)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_FORBIDDEN, _NOT_FOUND = 403, 404
#: Packages whose errors come from a database, and from a server asked over HTTP.
_DATABASE_PACKAGES = frozenset({"sqlalchemy", "psycopg", "psycopg2", "sqlite3"})
_HTTP_PACKAGES = frozenset({"aiohttp", "requests", "urllib3", "httpx"})


def failure_from(
    error: BaseException,
    *,
    stage: str,
    duplicate_content: str = "",
    empty_content: str = "",
    secrets: Collection[str] = (),
) -> EmberqError:
    """Return an error of ours for the error that ended an attempt.

    Args:
        error: The error.
        stage: The attempt's stage.
        duplicate_content: Open WebUI's message for content that a collection already has.
        empty_content: Open WebUI's message for a file without text.
        secrets: Values that must not appear in the message.
    """
    # Open WebUI raises errors of its own while it handles the original one.
    chain = list(causes(error))
    for cause in chain:
        if isinstance(cause, EmberqError):
            return cause
        if isinstance(cause, JobTimeoutException):
            return JobTimeout(hint="Split the file, or enqueue it with a longer timeout_seconds.")
    for cause in chain:
        if _is_from(cause, _DATABASE_PACKAGES) and classify_error(cause) is not ErrorKind.PERMANENT:
            return DatabaseUnavailable("Open WebUI's database or vector store was away.")
    route_failure = _route_failure(chain, duplicate_content, empty_content)
    if route_failure is not None:
        return route_failure
    # The original error: not the route's HTTP error, and not a library's error that caused the original.
    original = next((cause for cause in chain if not hasattr(cause, "status_code")), chain[0])
    if stage == "extracting":
        return _extraction_failure(original, chain, secrets)
    text = clean(str(original), secrets)
    message = f"Open WebUI failed while {stage}: {type(original).__name__}: {text}"
    return InternalError(message, stage=stage)


def _route_failure(
    chain: Sequence[BaseException], duplicate_content: str, empty_content: str
) -> EmberqError | None:
    """Return the failure that Open WebUI's route reports; None if it reports none of its own."""
    texts = [str(getattr(cause, "detail", None) or cause) for cause in chain]
    statuses = {getattr(cause, "status_code", None) for cause in chain}
    if duplicate_content and any(duplicate_content in text for text in texts):
        return IdempotencyConflict(
            "The collection already has a file with the same content.",
            hint="Remove the other file from the knowledge base first, or leave this one out.",
        )
    if empty_content and any(empty_content in text for text in texts):
        return NoTextFound()
    if _FORBIDDEN in statuses:
        return Forbidden(
            "The user may not write to the collection.", hint="Grant write access to the knowledge base."
        )
    if _NOT_FOUND in statuses:
        return Forbidden("The user may not write to the file.", hint="Run the job for the file's owner.")
    return None


def _extraction_failure(
    original: BaseException, chain: Sequence[BaseException], secrets: Collection[str]
) -> EmberqError:
    """Return the failure of the file, or of the server that extracts its text."""
    loader_answer = _LOADER_ANSWER.search(str(original))
    if loader_answer:
        return _loader_failure(int(loader_answer[1]), clean(loader_answer[2], secrets))
    if isinstance(original, FileNotFoundError):
        return BlobMissing("The uploaded bytes are missing at the path in Open WebUI's database.")
    if any(_is_from(cause, _HTTP_PACKAGES) for cause in chain):
        return ExtractionCrashed(
            "The document loader could not be reached.", hint="Check the content extraction engine's URL."
        )
    text = clean(str(original), secrets) or type(original).__name__
    return CorruptFile(f"The file could not be read: {text}")


def _loader_failure(status: int, text: str) -> EmberqError:
    if status in TRANSIENT_STATUSES:
        return ExtractionCrashed(
            f"The document loader could not process the file (HTTP {status}). {text}".strip()
        )
    return CorruptFile(f"The document loader refused the file (HTTP {status}). {text}".strip())


def clean(text: str, secrets: Collection[str] = ()) -> str:
    """Return the beginning of a text on one line, without secrets and addresses."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join(_URL.sub("(address)", redact_text(text)).split())
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def _is_from(error: BaseException, packages: Collection[str]) -> bool:
    return any(base.__module__.partition(".")[0] in packages for base in type(error).__mro__)
