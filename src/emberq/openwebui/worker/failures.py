"""From an error on the way to one with a code and a short sentence that its user can be shown."""

from __future__ import annotations

import re
from collections.abc import Collection

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

__all__ = ["clean", "name_failure"]

#: Characters of somebody else's words that are shown.
_MAX_CHARACTERS = 200
#: How Open WebUI begins what an external document loader answered, and what follows.
_LOADER_REFUSED = re.compile(r"Error loading document: (\d{3})\s*(.*)", re.DOTALL)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
#: Statuses of a loader that is busy or away.
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_FORBIDDEN, _NOT_FOUND = 403, 404
#: Packages whose errors are those of a database, and of a server that is asked over HTTP.
_DATABASE = frozenset({"sqlalchemy", "psycopg", "psycopg2", "sqlite3"})
_HTTP = frozenset({"aiohttp", "requests", "urllib3", "httpx"})


def name_failure(
    error: BaseException,
    *,
    stage: str,
    duplicate_content: str = "",
    empty_content: str = "",
    secrets: Collection[str] = (),
) -> EmberqError:
    """Return an error of ours for whatever ended an attempt.

    Args:
        error: What was raised.
        stage: What the attempt was doing.
        duplicate_content: What Open WebUI says of content that a collection has already.
        empty_content: What it says of a file without text.
        secrets: Values that must not appear in what a person is told.
    """
    # Open WebUI raises errors of its own in the handler of the real one.
    chain = list(causes(error))
    for one in chain:
        if isinstance(one, EmberqError):
            return one
        if isinstance(one, JobTimeoutException):
            return JobTimeout(hint="Split the file, or enqueue it with a longer timeout_seconds.")
    for one in chain:
        if _is_of(one, _DATABASE) and classify_error(one) is not ErrorKind.PERMANENT:
            return DatabaseUnavailable("Open WebUI's database or vector store was away.")
    of_route = _of_route(chain, duplicate_content, empty_content)
    if of_route is not None:
        return of_route
    # The error itself, below what Open WebUI's route made of it and above what a library raised for it.
    main = next((one for one in chain if not hasattr(one, "status_code")), chain[0])
    if stage == "extracting":
        return _of_extraction(main, chain, secrets)
    words = clean(str(main), secrets)
    return InternalError(f"Open WebUI failed while {stage}: {type(main).__name__}: {words}", stage=stage)


def _of_route(chain: list[BaseException], duplicate_content: str, empty_content: str) -> EmberqError | None:
    """Return what Open WebUI's route said of the request, if it said anything of its own."""
    texts = [str(getattr(one, "detail", None) or one) for one in chain]
    statuses = {getattr(one, "status_code", None) for one in chain}
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


def _of_extraction(main: BaseException, chain: list[BaseException], secrets: Collection[str]) -> EmberqError:
    """Return what is wrong with the file, or with the server that was to read it."""
    words = clean(str(main), secrets)
    refused = _LOADER_REFUSED.search(str(main))
    if refused:
        return _refused_by_loader(int(refused[1]), clean(refused[2], secrets))
    if isinstance(main, FileNotFoundError):
        return BlobMissing("The uploaded bytes are not where Open WebUI says they are.")
    if any(_is_of(one, _HTTP) for one in chain):
        return ExtractionCrashed(
            "The document loader could not be reached.", hint="Check the content extraction engine's URL."
        )
    return CorruptFile(f"The file could not be read: {words or type(main).__name__}")


def _refused_by_loader(status: int, words: str) -> EmberqError:
    if status in _BUSY:
        return ExtractionCrashed(
            f"The document loader could not serve the file (HTTP {status}). {words}".strip()
        )
    return CorruptFile(f"The document loader refused the file (HTTP {status}). {words}".strip())


def clean(text: str, secrets: Collection[str] = ()) -> str:
    """Return the beginning of a text on one line, without secrets and addresses."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join(_URL.sub("(address)", redact_text(text)).split())
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def _is_of(error: BaseException, packages: Collection[str]) -> bool:
    return any(base.__module__.partition(".")[0] in packages for base in type(error).__mro__)
