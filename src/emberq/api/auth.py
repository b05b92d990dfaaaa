"""Bearer keys: who asks, and what the key allows."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from emberq.errors import Forbidden, Unauthorized
from emberq.store.keys import authenticate
from emberq.store.secrets import hash_api_key
from emberq.store.services import Services, get_services

__all__ = ["Admin", "Caller", "Reader", "ServicesDep", "Writer", "identify", "sent_key"]

#: Seconds a key that was found good is not looked up again; a revoked key works no longer than this.
_TRUST_SECONDS = 2.0
#: Keys remembered at once.
_REMEMBERED = 1024

_bearer = HTTPBearer(auto_error=False, description="An API key, `eq_…`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        tenant: Whose data it may touch.
        scopes: What it may do: `read`, `write`, `admin`.
    """

    tenant: str
    scopes: frozenset[str]

    def require(self, scope: str, request: Request) -> None:
        """Refuse a request that the key is not for.

        Raises:
            Forbidden: Says which scope it lacks.
        """
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(
                f"This key lacks the scope {scope!r} that {request.method} {request.url.path} needs."
            )


_known: dict[bytes, tuple[float, Caller]] = {}


def sent_key(request: Request) -> str | None:
    """Return the key that a request carries in one of the ways that other programs can be told to send it.

    `Authorization: Bearer KEY`; `X-Api-Key: KEY`; or the password of `Authorization: Basic`, which most
    clients make of `http://any:KEY@host`.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
    return request.headers.get("x-api-key")


def identify(key: str | None) -> Caller:
    """Return who sent a key.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        Unauthorized: If there is no such key.
    """
    if not key:
        raise Unauthorized
    digest = hash_api_key(key)
    now = time.monotonic()
    known = _known.get(digest)
    if known is not None and known[0] > now:
        return known[1]
    with get_services().database.transaction() as connection:
        tenant, scopes = authenticate(connection, key)
    if len(_known) >= _REMEMBERED:
        _known.clear()
    caller = Caller(tenant, scopes)
    _known[digest] = (now + _TRUST_SECONDS, caller)
    return caller


def _require(scope: str) -> Callable[..., Caller]:
    def dependency(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        caller = identify(credentials.credentials if credentials is not None else None)
        caller.require(scope, request)
        return caller

    return dependency


#: A caller that may read documents and jobs.
Reader = Annotated[Caller, Depends(_require("read"))]
#: A caller that may change documents and jobs.
Writer = Annotated[Caller, Depends(_require("write"))]
#: A caller that may change settings and keys.
Admin = Annotated[Caller, Depends(_require("admin"))]
#: The services of the process.
ServicesDep = Annotated[Services, Depends(get_services)]
