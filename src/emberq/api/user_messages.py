"""One plain sentence for each failure, for people who uploaded a file to another program."""

from __future__ import annotations

import re
from typing import Final

from emberq.errors import EmberqError, InternalError, ServiceStopping, Unauthorized
from emberq.visible import visible

#: What happened to the file and what its owner can do, by error code. Other codes use the error's message.
_SENTENCES: Final = {
    "file_too_large": "{name} was not read because {message}: split it into smaller files.",
    "empty_file": "{name} is empty: check the program that produced it and upload it again.",
    "encrypted_file": "{name} is password-protected: remove the password and upload it again.",
    "archive_bomb": "{name} unpacks to far more than a document should: split it into smaller files.",
    "extraction_timeout": "{name} took too long to read: split it into smaller files.",
    "extraction_crashed": "{name} could not be read: save it again in the program that made it"
    " and upload it again.",
    "memory_limit_exceeded": "{name} needs too much memory to be read: split it into smaller files.",
    "blob_missing": "{name} was lost before it was read: upload it again.",
    "worker_lost": "{name} could not be read because its worker died: upload it again.",
    "job_timeout": "{name} took too long to read: split it into smaller files.",
    "job_stalled": "{name} could not be read because its worker made no progress: upload it again.",
    "quarantined": "{name} was set aside because its worker died on it several times:"
    " save it again in the program that made it and upload it again.",
    "cancelled": "{name} was not read because its job was cancelled: upload it again if it is still wanted.",
    "file_not_found": "{name} was deleted before it was read: upload it again.",
    "job_not_found": "{name} was deleted before it was read: upload it again.",
    "unauthorized": "{name} was not read: the API key of the document service is missing, wrong or revoked;"
    " ask the administrator to enter a valid one.",
    "forbidden": "{name} was not read: the API key of the document service lacks the scope write;"
    " ask the administrator for another key.",
    "rate_limited": "{name} was not read because too many files are waiting: upload it again later.",
    "database_unavailable": "{name} was not read because the document service cannot reach its database:"
    " upload it again in a moment.",
    "redis_unavailable": "{name} was not read because the document service cannot reach its queue:"
    " upload it again in a moment.",
}
#: The sentence for an internal error.
_INTERNAL: Final = (
    "{name} could not be read because of an error in the document service: upload it again,"
    " and tell the administrator."
)
#: The sentence for a process that stops; the job goes on, and the same file finds it again.
_STOPPING: Final = (
    "{name} has not been read yet because the document service is restarting: upload it again in a moment."
)
#: An id that some programs put in front of the names of uploaded files.
_ID: Final = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}_(?=.)")
#: Longest name shown in full, in characters.
_NAME_CHARS: Final = 100


def user_message(error: EmberqError, name: str | None = None) -> str:
    """Return one line of text: what happened to a file, and what to do next."""
    shown = _ID.sub("", visible(" ".join((name or "The file").split())))
    if len(shown) > _NAME_CHARS:
        shown = shown[:_NAME_CHARS] + "…"
    if isinstance(error, ServiceStopping):
        return _STOPPING.format(name=shown)
    if error.code == InternalError.code:
        return _INTERNAL.format(name=shown)
    sentence = _SENTENCES.get(error.code)
    if isinstance(error, Unauthorized) and error.message != Unauthorized().message:
        # The key is not the reason, so the sentence about the key would mislead.
        sentence = None
    if sentence is not None:
        return sentence.format(name=shown, message=_within(error.message.rstrip(".")))
    message, hint = (visible(" ".join(text.split())) for text in (error.message, error.hint))
    return f"{shown} was not read: {_within(message).rstrip('.')}" + (f"; {_within(hint)}" if hint else ".")


def _within(text: str) -> str:
    """Return a sentence for use inside another one: it begins with a small letter, except for acronyms."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
