"""Bearer keys: who asks, and what the key allows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from emberq.errors import DatabaseUnavailable, Forbidden, Unauthorized
from emberq.store.admin.api_keys import authenticate
from emberq.store.admin.secrets import hash_api_key
from emberq.store.services import Services, get_services

__all__ = ["Admin", "Caller", "Reader", "ServicesDep", "Writer", "identify", "reader", "sent_key"]

#: Seconds a key that was found good is not looked up again; a revoked key works no longer than this.
_TRUST_SECONDS = 2.0
#: Seconds a key that was found good is still trusted while PostgreSQL does not answer.
_TRUST_IN_OUTAGE_SECONDS = 300.0
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


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    #: When the database said so, and until when it is not asked again.
    found_at: float
    trusted_until: float


_known: dict[bytes, _Known] = {}
_lookups: dict[tuple[asyncio.AbstractEventLoop, bytes], asyncio.Future[Caller]] = {}


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
        DatabaseUnavailable: If PostgreSQL does not answer, and the key was not found good lately.
        Unauthorized: If there is no such key.
    """
    if not key:
        raise Unauthorized
    digest = hash_api_key(key)
    now = time.monotonic()
    known = _known.get(digest)
    if known is not None and known.trusted_until > now:
        return known.caller
    try:
        with get_services().database.transaction() as connection:
            caller, found_at = Caller(*authenticate(connection, key)), now
    except DatabaseUnavailable:
        if known is None or known.found_at + _TRUST_IN_OUTAGE_SECONDS < now:
            raise
        caller, found_at = known.caller, known.found_at
    except Unauthorized:
        _known.pop(digest, None)
        raise
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _known[digest] = _Known(caller, found_at, time.monotonic() + _TRUST_SECONDS)
    return caller


async def reader(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Return who may read, without a thread where the key is known: for calls that come in thousands.

    Raises:
        DatabaseUnavailable: As `identify`.
        Forbidden: If the key is not for reading.
        Unauthorized: As `identify`.
    """
    key = credentials.credentials if credentials is not None else ""
    digest = hash_api_key(key)
    known = _known.get(digest)
    if known is not None and known.trusted_until > time.monotonic():
        caller = known.caller
    else:
        caller = await _identify_once(key, digest)
    caller.require("read", request)
    return caller


async def _identify_once(key: str, digest: bytes) -> Caller:
    """Look a key up once for all who send it at the same moment."""
    place = asyncio.get_running_loop(), digest
    lookup = _lookups.get(place)
    if lookup is None:
        lookup = _lookups[place] = asyncio.ensure_future(run_in_threadpool(identify, key))
        lookup.add_done_callback(lambda _: _lookups.pop(place, None))
    # One who hangs up does not take the others along.
    return await asyncio.shield(lookup)


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
