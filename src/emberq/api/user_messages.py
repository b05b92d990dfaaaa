"""Failures as one plain sentence each, for people who uploaded a file to some other program."""

from __future__ import annotations

import re
from typing import Final

from emberq.errors import EmberqError, InternalError, ServiceStopping, Unauthorized

__all__ = ["sentence"]

#: What happened to the file, and what its owner can do; the rest is said by the error itself.
_SENTENCES: Final = {
    "file_too_large": "{name} was not read, {message}: split it into smaller files.",
    "empty_file": "{name} is empty: check the program that produced it and upload it again.",
    "no_text_found": "{name} has no text: if it is a scan, run OCR over it and upload the result.",
    "encrypted_file": "{name} is password-protected: remove the password and upload it again.",
    "archive_bomb": "{name} unpacks to far more than a document should: split it into smaller files.",
    "extraction_timeout": "{name} took too long to read: split it into smaller files.",
    "extraction_crashed": "{name} could not be read: save it anew in the program that made it"
    " and upload it again.",
    "memory_limit_exceeded": "{name} needs too much memory to be read: split it into smaller files.",
    "blob_missing": "{name} was lost before it was read: upload it again.",
    "worker_lost": "{name} could not be read, its reader died: upload it again.",
    "job_timeout": "{name} took too long to read: split it into smaller files.",
    "job_stalled": "{name} could not be read, its reader stood still: upload it again.",
    "quarantined": "{name} was set aside because its reader died on it again and again:"
    " save it anew in the program that made it and upload it again.",
    "cancelled": "{name} was not read, its job was cancelled: upload it again if it is still wanted.",
    "file_not_found": "{name} was deleted before it was read: upload it again.",
    "job_not_found": "{name} was deleted before it was read: upload it again.",
    "unauthorized": "{name} was not read: the API key of the document service is missing, wrong or revoked;"
    " ask the administrator to enter a valid one.",
    "forbidden": "{name} was not read: the API key of the document service lacks the scope write;"
    " ask the administrator for another key.",
    "rate_limited": "{name} was not read, too many files are waiting already: upload it again later.",
    "database_unavailable": "{name} was not read, the document service cannot reach its database:"
    " upload it again in a moment.",
    "redis_unavailable": "{name} was not read, the document service cannot reach its queue:"
    " upload it again in a moment.",
}
#: What the service itself failed at.
_INTERNAL: Final = (
    "{name} could not be read because of an error in the document service: upload it again,"
    " and tell the administrator."
)
_STOPPING: Final = "{name} is not read yet, the document service is restarting: upload it again in a moment."
#: An id that some programs put before the names of uploaded files.
_ID: Final = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}_(?=.)")
#: Longest name shown in full.
_NAME_CHARS: Final = 100


def sentence(error: EmberqError, name: str | None = None) -> str:
    """Return what happened to a file and what to do, as one line of text.

    Args:
        error: Why it was not read.
        name: What its owner calls it.
    """
    shown = _ID.sub("", " ".join((name or "The file").split()))
    if len(shown) > _NAME_CHARS:
        shown = shown[:_NAME_CHARS] + "…"
    if isinstance(error, ServiceStopping):
        return _STOPPING.format(name=shown)
    if error.code == InternalError.code:
        return _INTERNAL.format(name=shown)
    known = _SENTENCES.get(error.code)
    if isinstance(error, Unauthorized) and error.message != Unauthorized().message:
        # It is not the key.
        known = None
    if known is not None:
        return known.format(name=shown, message=_within(error.message.rstrip(".")))
    # What the file turned out to be only the error knows.
    said, hint = (" ".join(text.split()) for text in (error.message, error.hint))
    return f"{shown} was not read: {_within(said).rstrip('.')}" + (f"; {_within(hint)}" if hint else ".")


def _within(text: str) -> str:
    """Return a sentence as it is written within another one."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
