"""What each path asks of a request before it is routed: a key, and how long its body may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

#: Most bytes of a JSON body.
_JSON_BYTES: Final = 64 * 1024
#: Most bytes of a request with texts for a model: 2,048 texts of 4,000 characters.
TEXTS_BYTES: Final = 8 << 20


class Body(Enum):
    """What a path does with a body.

    `JSON`: read and checked here, before the routing. `TEXTS`: JSON that its route reads. `FILE`: a file, or
    a form with a file, that its route writes to the disk as it arrives, up to the setting `max_file_size`.
    """

    JSON = _JSON_BYTES
    TEXTS = TEXTS_BYTES
    FILE = 0

    @property
    def most_bytes(self) -> int:
        """Longest body, in bytes; of no meaning for a file."""
        return self.value


@dataclass(frozen=True, slots=True)
class Rule:
    """What a path asks of a request.

    Attributes:
        needs_key: Whether a request without a valid key is refused.
        body: What it does with a body.
        waits: Whether requests wait while PostgreSQL is away, and may give the key as other programs do.
    """

    needs_key: bool = True
    body: Body = Body.JSON
    waits: bool = False


_DEFAULT: Final = Rule()
_PUBLIC: Final = Rule(needs_key=False)
_TEXTS: Final = Rule(body=Body.TEXTS)
_UPLOAD: Final = Rule(body=Body.FILE)
_CONVERSION: Final = Rule(body=Body.FILE, waits=True)

#: The rules by method and path; the first that matches counts. Everything else needs a key and may send a
#: short JSON body.
_RULES: Final = [
    (re.compile(pattern), rule)
    for pattern, rule in {
        r"GET /(?:|healthz|readyz|metrics|openapi\.json|docs(?:/.*)?|favicon\.ico)": _PUBLIC,
        r"HEAD /(?:|healthz|readyz|metrics|openapi\.json|docs(?:/.*)?|favicon\.ico)": _PUBLIC,
        r"GET /tika": _PUBLIC,
        r"POST /v1/(?:embeddings|rerank)": _TEXTS,
        r"POST /api/v1/collections/[^/]+/files": _UPLOAD,
        r"POST /v1/convert/file": _CONVERSION,
        r"PUT /(?:process|tika(?:/.*)?|rmeta/.*)": _CONVERSION,
    }.items()
]


def rule_for(method: str, path: str) -> Rule:
    """Return the rule of a request."""
    request = f"{method} {path}"
    return next((rule for pattern, rule in _RULES if pattern.fullmatch(request)), _DEFAULT)
