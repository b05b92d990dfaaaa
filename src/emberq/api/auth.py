"""API keys: the sender of a request, and what its key allows."""

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

from emberq.errors import DatabaseUnavailable, EmberqError, Forbidden, Unauthorized
from emberq.store.admin.api_keys import KeyOwner, authenticate, note_use
from emberq.store.admin.secrets import hash_api_key
from emberq.store.services import Services, get_services

#: Seconds for which a valid key is not looked up again; a revoked key works no longer than this.
_TRUST_SECONDS = 2.0
#: Seconds for which a valid key is still trusted while PostgreSQL does not answer.
_TRUST_IN_OUTAGE_SECONDS = 300.0
#: Keys remembered at once.
_REMEMBERED = 1024

_bearer = HTTPBearer(auto_error=False, description="An API key, `eq_…`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        tenant: The tenant whose data it may use.
        scopes: What it may do: `read`, `write`, `admin`.
        actor: Its key, by name and prefix, as the audit log shows it.
    """

    tenant: str
    scopes: frozenset[str]
    actor: str = ""

    def require(self, scope: str, request: Request) -> None:
        """Refuse a request if the key lacks a scope.

        Raises:
            Forbidden: If it lacks the scope; the message names it.
        """
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(
                f"This key lacks the scope {scope!r} that {request.method} {request.url.path} needs."
            )


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    #: When the database confirmed the key, and until when it is not asked again.
    found_at: float
    trusted_until: float


_known: dict[bytes, _Known] = {}
_lookups: dict[tuple[asyncio.AbstractEventLoop, bytes], asyncio.Future[Caller]] = {}


def sent_key(request: Request) -> str | None:
    """Return the key of a request, sent in any of three ways that other programs support.

    These are `Authorization: Bearer KEY`, `X-Api-Key: KEY`, and the password of `Authorization: Basic`;
    most clients send the last for `http://any:KEY@host`.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
    return request.headers.get("x-api-key")


def identify(key: str | None) -> Caller:
    """Return the caller that a key belongs to.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer and did not confirm the key in the last minutes.
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
        with get_services().database.system_transaction() as connection:
            owner = authenticate(connection, key)
    except DatabaseUnavailable:
        if known is None or known.found_at + _TRUST_IN_OUTAGE_SECONDS < now:
            raise
        caller, found_at = known.caller, known.found_at
    except Unauthorized:
        _known.pop(digest, None)
        raise
    else:
        caller, found_at = Caller(owner.tenant, owner.scopes, f"{owner.name} ({owner.prefix})"), now
        _note_use(owner)
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _known[digest] = _Known(caller, found_at, time.monotonic() + _TRUST_SECONDS)
    return caller


def _note_use(owner: KeyOwner) -> None:
    """Write that the key is in use, once a minute at most; the request does not fail with it."""
    if owner.is_use_due:
        with (
            contextlib.suppress(EmberqError),
            get_services().database.tenant_transaction(owner.tenant) as connection,
        ):
            note_use(connection, owner.key_id)


async def _reader(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Return a caller that may read; a known key is checked without a thread."""
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
    """Look a key up once for all requests that carry it at the same moment."""
    place = asyncio.get_running_loop(), digest
    lookup = _lookups.get(place)
    if lookup is None:
        lookup = _lookups[place] = asyncio.ensure_future(run_in_threadpool(identify, key))
        lookup.add_done_callback(lambda _: _lookups.pop(place, None))
    # Shielded: a client that hangs up must not cancel the lookup of the others.
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
#: A caller that may read; for routes that get thousands of requests at once.
AsyncReader = Annotated[Caller, Depends(_reader)]
#: A caller that may change settings and keys.
Admin = Annotated[Caller, Depends(_require("admin"))]
#: The services of the process.
ServicesDep = Annotated[Services, Depends(get_services)]
