"""The Open WebUI user of a request, read from its headers: plain ones, or a signed token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from emberq.errors import Unauthorized

_HEADERS: Final = {
    "id": "x-openwebui-user-id",
    "name": "x-openwebui-user-name",
    "email": "x-openwebui-user-email",
    "role": "x-openwebui-user-role",
}
_SIGNED: Final = "x-openwebui-user-jwt"
_ISSUER: Final = "open-webui"
#: Tolerated difference between two machines' clocks, in seconds.
_LEEWAY_SECONDS: Final = 60.0
#: Characters kept of each value.
_MAX_CHARACTERS: Final = 320


def user_of(headers: Mapping[str, str], secret: str | None) -> dict[str, str]:
    """Return the user's `id`, `name`, `email` and `role`, as far as the headers have them.

    Args:
        headers: The request's headers.
        secret: The secret shared with Open WebUI. With it, only the signed token is read; without it, only
            the plain headers.

    Raises:
        Unauthorized: If there is a secret, and the token is not signed with it or has expired.
    """
    if secret is None:
        values: Mapping[str, Any] = {key: unquote(headers.get(name, "")) for key, name in _HEADERS.items()}
    elif token := headers.get(_SIGNED):
        claims = verify_user(token, secret)
        values = {**claims, "id": claims.get("sub")}
    else:
        return {}
    return {key: text for key in _HEADERS if (text := _printable(values.get(key)))}


def verify_user(token: str, secret: str, *, now: float | None = None) -> dict[str, Any]:
    """Return the claims of Open WebUI's JSON Web Token (RFC 7519, signed with HMAC-SHA256).

    Args:
        token: The token.
        secret: The secret shared with Open WebUI.
        now: Seconds since 1970; the current time if left out.

    Raises:
        Unauthorized: If the token is malformed, signed with another secret, of another issuer, or expired.
    """
    now = time.time() if now is None else now
    head, _, rest = token.partition(".")
    body, _, signature = rest.partition(".")
    expected = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    try:
        # The signature is checked first, so that nothing of a forged token is parsed.
        is_signed = hmac.compare_digest(_decode(signature), expected)
        algorithm = json.loads(_decode(head)).get("alg") if is_signed else None
        claims = json.loads(_decode(body)) if is_signed else {}
        is_valid = (
            algorithm == "HS256"
            and claims["iss"] == _ISSUER
            and bool(claims["sub"])
            and float(claims["exp"]) > now - _LEEWAY_SECONDS
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise Unauthorized(
            "The user's token is not signed with the shared secret, or has expired.",
            hint="Set EMBERQ_OPENWEBUI_JWT_SECRET to Open WebUI's FORWARD_USER_INFO_HEADER_JWT_SECRET.",
        )
    return dict(claims)


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from exc


def _printable(value: object) -> str:
    """Return a value without characters that the database refuses."""
    text = "" if value is None else str(value)
    return "".join(char for char in text if char.isprintable())[:_MAX_CHARACTERS].strip()
