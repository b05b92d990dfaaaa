"""Bearer keys: who asks, and what the key allows."""

from __future__ import annotations

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

__all__ = ["Admin", "Caller", "Reader", "ServicesDep", "Writer"]

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


_known: dict[bytes, tuple[float, Caller]] = {}


def _caller(credentials: HTTPAuthorizationCredentials | None) -> Caller:
    if credentials is None or not credentials.credentials:
        raise Unauthorized
    digest = hash_api_key(credentials.credentials)
    now = time.monotonic()
    known = _known.get(digest)
    if known is not None and known[0] > now:
        return known[1]
    with get_services().database.transaction() as connection:
        tenant, scopes = authenticate(connection, credentials.credentials)
    if len(_known) >= _REMEMBERED:
        _known.clear()
    caller = Caller(tenant, scopes)
    _known[digest] = (now + _TRUST_SECONDS, caller)
    return caller


def _require(scope: str) -> Callable[..., Caller]:
    def dependency(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        caller = _caller(credentials)
        if scope not in caller.scopes and "admin" not in caller.scopes:
            raise Forbidden(
                f"This key lacks the scope {scope!r} that {request.method} {request.url.path} needs."
            )
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
