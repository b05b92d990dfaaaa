"""API keys: the sender of a request, and what its key allows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from emberq.errors import DatabaseUnavailable, EmberqError, Forbidden, Unauthorized
from emberq.store.admin.api_keys import KeyOwner, authenticate, note_use
from emberq.store.admin.secrets import hash_api_key
from emberq.store.services import Services, get_services

#: Seconds for which a key is not looked up again. A revoked key works for this long, and an event stream for
#: one poll longer.
_TRUST_SECONDS = 0.5
#: Seconds for which a key is not looked up again while PostgreSQL does not answer.
_TRUST_IN_OUTAGE_SECONDS = 2.0
#: Seconds for which a valid key is still trusted while PostgreSQL does not answer.
_TRUST_WITHOUT_DATABASE_SECONDS = 300.0
#: Seconds for which an unknown key is not looked up again. Nothing makes a key that was already sent.
_DISTRUST_SECONDS = 5.0
#: Keys remembered at once, valid and unknown ones each.
_REMEMBERED = 4096
#: Lookups of keys that were never seen before, at once: a flood of invented keys must leave connections to
#: PostgreSQL for the others.
_FIRST_LOOKUPS = 2
#: What a key begins with, and its most characters; anything else is unknown without a lookup.
_KEY_PREFIX, _KEY_CHARACTERS = "eq_", 100

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, description="An API key, `eq_…`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        tenant: The tenant whose data it may use.
        scopes: What it may do: `read`, `write`, `admin`.
        actor: Its key, by name and prefix, as the audit log shows it.
        key: Its key, for `KeyCache` and whatever counts by key.
        expires_at: When its key expires.
    """

    tenant: str
    scopes: frozenset[str]
    actor: str
    key: str = field(repr=False)
    expires_at: datetime | None

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


def sent_key(headers: Mapping[str, str], *, also_basic: bool = False) -> str:
    """Return the key of a request, or an empty text if there is none.

    It is sent as `Authorization: Bearer KEY` or `X-Api-Key: KEY`.

    Args:
        headers: The request's headers.
        also_basic: Whether it may also be the password of `Authorization: Basic`, which most clients send
            for `http://any:KEY@host`.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if also_basic and scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
    return headers.get("x-api-key", "")


class KeyCache:
    """The keys that were looked up lately, valid and unknown ones.

    Invariants: a key that was revoked is refused `_TRUST_SECONDS` later, or once PostgreSQL answers again.
    All requests that send a key at the same moment share one lookup. Memory is bounded, whatever is sent.
    """

    def __init__(self, services: Callable[[], Services] = get_services) -> None:
        self._services = services
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._lookups: dict[tuple[asyncio.AbstractEventLoop, bytes], asyncio.Future[Caller]] = {}
        self._first_lookups: MutableMapping[asyncio.AbstractEventLoop, anyio.CapacityLimiter] = (
            weakref.WeakKeyDictionary()
        )

    async def identify(self, key: str) -> Caller:
        """Return the caller that a key belongs to; for a key looked up a moment ago, without waiting.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer and did not confirm the key in the last
                minutes.
            Unauthorized: If there is no such key.
        """
        if not key.startswith(_KEY_PREFIX) or len(key) > _KEY_CHARACTERS or not key.isascii():
            raise Unauthorized
        digest = hash_api_key(key)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and known.trusted_until > now:
            return known.caller
        if self._unknown.get(digest, now) > now:
            raise Unauthorized
        loop = asyncio.get_running_loop()
        lookup = self._lookups.get((loop, digest))
        if lookup is None:
            limiter = None
            if known is None:
                limiter = self._first_lookups.setdefault(loop, anyio.CapacityLimiter(_FIRST_LOOKUPS))
            found: Awaitable[Caller] = anyio.to_thread.run_sync(self._look_up, key, digest, limiter=limiter)
            lookup = self._lookups[loop, digest] = asyncio.ensure_future(found)
            lookup.add_done_callback(lambda _: self._lookups.pop((loop, digest), None))
        # Shielded: a client that hangs up must not cancel the lookup of the others.
        return await asyncio.shield(lookup)

    def _look_up(self, key: str, digest: bytes) -> Caller:
        known, now, trust = self._known.get(digest), time.monotonic(), _TRUST_SECONDS
        try:
            with self._services().database.system_transaction() as connection:
                owner = authenticate(connection, key)
        except DatabaseUnavailable:
            if known is None or known.found_at + _TRUST_WITHOUT_DATABASE_SECONDS < now:
                raise
            if known.caller.expires_at is not None and known.caller.expires_at < datetime.now(UTC):
                raise Unauthorized from None
            caller, found_at, trust = known.caller, known.found_at, _TRUST_IN_OUTAGE_SECONDS
        except Unauthorized:
            self._known.pop(digest, None)
            _remember(self._unknown, digest, now + _DISTRUST_SECONDS)
            raise
        else:
            actor = f"{owner.name} ({owner.prefix})"
            caller, found_at = Caller(owner.tenant, owner.scopes, actor, key, owner.expires_at), now
            self._note_use(owner)
        # From before the lookup: it may have read the key just before it was revoked.
        _remember(self._known, digest, _Known(caller, found_at, now + trust))
        return caller

    def _note_use(self, owner: KeyOwner) -> None:
        """Write that the key is in use, once a minute at most; the request does not fail with it."""
        if owner.is_use_due:
            with (
                contextlib.suppress(EmberqError),
                self._services().database.tenant_transaction(owner.tenant) as connection,
            ):
                note_use(connection, owner.key_id)


def _remember(cache: OrderedDict[bytes, T], digest: bytes, value: T) -> None:
    cache[digest] = value
    cache.move_to_end(digest)
    while len(cache) > _REMEMBERED:
        cache.popitem(last=False)


async def _services() -> Services:
    return get_services()


def _require(scope: str) -> Callable[..., Awaitable[Caller]]:
    async def dependency(
        request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        # The front door has checked the key.
        caller: Caller = request.state.caller
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
ServicesDep = Annotated[Services, Depends(_services)]
