"""Redaction: removes secrets from the fields and texts of log records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Replaces a secret.
_HIDDEN = "***"
#: Ends of the names of fields whose values are never logged, for example of `openai_api_key`.
_SECRET_NAMES = re.compile(
    r"(api_?key|secret_?key|private_?key|password|passwd|passphrase|secret|token|authorization|cookie"
    r"|credentials?)$",
    re.IGNORECASE,
)
#: Secrets inside texts, each with its replacement.
_SECRET_TEXTS = (
    # The password of a URL such as redis://user:password@host; the password may contain an @.
    (re.compile(r"(?<=://)([^:/@\s]*):[^/\s]+(?=@)"), rf"\1:{_HIDDEN}"),
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{_HIDDEN}"),
    # password=… in a connection string, a query or a repr.
    (
        re.compile(
            r"(?i)\b((?:\w+[_-])?(?:password|passwd|api_?key|secret|access_token|refresh_token)[\"']?\s*[=:]\s*)"
            r"([\"']?)[^\s\"'&,;)}]+"
        ),
        rf"\1\2{_HIDDEN}",
    ),
    # API keys of emberq and of the usual providers of models.
    (re.compile(r"\beq_[A-Za-z0-9_-]{16,}"), f"eq_{_HIDDEN}"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), f"sk-{_HIDDEN}"),
)
#: Levels of nested values that are searched; deeper values are written as text.
_MAX_DEPTH = 6


def redact(fields: Mapping[str, Any], *, depth: int = 0) -> dict[str, Any]:
    """Return the fields without secrets, also in nested values."""
    return {str(name): _hide(str(name), value, depth) for name, value in fields.items()}


def redact_text(text: str) -> str:
    """Return a text without the secrets that can be recognized by their form."""
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


def _hide(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    return _HIDDEN if _SECRET_NAMES.search(name) else _hide_value(value, depth + 1)


def _hide_value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth <= _MAX_DEPTH:
        if isinstance(value, Mapping):
            return redact(value, depth=depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_hide_value(one, depth + 1) for one in value]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return redact_text(value if isinstance(value, str) else str(value))
