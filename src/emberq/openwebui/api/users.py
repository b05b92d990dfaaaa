"""Who uses Open WebUI, as it tells in the headers of its requests: in the clear, or signed."""

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

__all__ = ["user_of", "verify_user"]

_HEADERS: Final = {
    "id": "x-openwebui-user-id",
    "name": "x-openwebui-user-name",
    "email": "x-openwebui-user-email",
    "role": "x-openwebui-user-role",
}
_SIGNED: Final = "x-openwebui-user-jwt"
_ISSUER: Final = "open-webui"
#: Seconds by which two machines' clocks may differ.
_LEEWAY_SECONDS: Final = 60.0
#: Longest value kept, in characters.
_CHARS: Final = 320


def user_of(headers: Mapping[str, str], secret: str | None) -> dict[str, str]:
    """Return what is known of the user a request is made for: `id, name, email, role`, or nothing.

    Args:
        headers: The request's headers.
        secret: What the signed form is signed with. With one, only the signed form is believed; without
            one, only the other.

    Raises:
        Unauthorized: If there is a secret, and the signed form is not signed with it, or too old.
    """
    if secret is None:
        told: Mapping[str, Any] = {key: unquote(headers.get(name, "")) for key, name in _HEADERS.items()}
    elif token := headers.get(_SIGNED):
        claims = verify_user(token, secret)
        told = {**claims, "id": claims.get("sub")}
    else:
        return {}
    return {key: text for key in _HEADERS if (text := _printable(told.get(key)))}


def verify_user(token: str, secret: str, *, now: float | None = None) -> dict[str, Any]:
    """Return the claims of Open WebUI's JSON Web Token (RFC 7519, signed by HMAC-SHA256).

    Args:
        token: The token.
        secret: What it must be signed with.
        now: Seconds since the epoch; the present if left out.

    Raises:
        Unauthorized: If it is malformed, signed otherwise, issued by others, or over.
    """
    moment = time.time() if now is None else now
    head, _, rest = token.partition(".")
    body, _, signature = rest.partition(".")
    expected = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    try:
        # The signature comes first: nothing of a forged token is looked at.
        is_signed = hmac.compare_digest(_decode(signature), expected)
        algorithm = json.loads(_decode(head)).get("alg") if is_signed else None
        claims = json.loads(_decode(body)) if is_signed else {}
        is_valid = (
            algorithm == "HS256"
            and claims["iss"] == _ISSUER
            and bool(claims["sub"])
            and float(claims["exp"]) > moment - _LEEWAY_SECONDS
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise Unauthorized(
            "Who the user is was not signed with the secret that both sides share, or too long ago.",
            hint="Set EMBERQ_OPENWEBUI_JWT_SECRET to Open WebUI's FORWARD_USER_INFO_HEADER_JWT_SECRET.",
        )
    return dict(claims)


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from exc


def _printable(value: object) -> str:
    """Return a value as the database takes it."""
    text = "" if value is None else str(value)
    return "".join(char for char in text if char.isprintable())[:_CHARS].strip()
