"""The front door: method, text, key, rate and body of a request are checked before it is routed."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final
from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emberq.api.auth import Caller, KeyCache, sent_key
from emberq.api.door.bodies import HeldBody, too_large
from emberq.api.door.rate import TokenBuckets
from emberq.api.door.rules import Body, Rule, rule_for
from emberq.api.problems import METHODS, answer, method_not_allowed
from emberq.api.types import MOST_CHARACTERS, check_text, parse_json
from emberq.config.current import get_config_cache
from emberq.config.runtime import RuntimeSettings
from emberq.dispatch.conversion import JobEnds
from emberq.errors import EmberqError, InvalidRequest, RateLimited

_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: Most fields of a query.
_MOST_FIELDS: Final = 200
#: Settings that are in force before the first ones are loaded.
_DEFAULTS: Final = RuntimeSettings()


class FrontDoor:
    """ASGI middleware that checks a request, in this order.

    1. Some route has the method, and the path and the query are valid text.
    2. The key is known, on every path that needs one. The caller is left in `request.state.caller`.
    3. The key and its tenant are within their rates.
    4. The body is no longer than the path allows, counted while it arrives, and valid JSON where the path
       takes a short JSON body.

    Nothing of a request that is refused is read beyond what was needed to refuse it.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyCache, ends: JobEnds) -> None:
        """Wrap an application.

        Args:
            app: What answers a request that passes.
            keys: Knows the keys.
            ends: Waits for PostgreSQL, for requests whose client would not try again.
        """
        self._app = app
        self._keys = keys
        self._ends = ends
        self._buckets = TokenBuckets()
        self._held: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why it does not pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if request.method not in METHODS:
            await method_not_allowed(request, METHODS)(scope, receive, send)
            return
        held = None
        try:
            _check_address(scope)
            rule = rule_for(request.method, scope["path"])
            if rule.needs_key:
                caller = request.state.caller = await self._identify(request, rule)
                self._check_rate(caller)
                held = HeldBody(receive, self._held, caller.tenant, rule.body)
                receive = await _checked_body(request, rule, held)
        except EmberqError as exc:
            await answer(request, exc)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
        finally:
            if held is not None:
                held.release()

    async def _identify(self, request: Request, rule: Rule) -> Caller:
        key = sent_key(request.headers, also_basic=rule.waits)
        if rule.waits:
            return await self._ends.until_database(lambda: self._keys.identify(key))
        return await self._keys.identify(key)

    def _check_rate(self, caller: Caller) -> None:
        snapshot = get_config_cache().stored
        settings = snapshot.for_tenant(caller.tenant) if snapshot is not None else _DEFAULTS
        for sender, what, rate in (
            (caller.key, "key", settings.key_max_request_rate),
            (caller.tenant, "tenant", settings.tenant_max_request_rate),
        ):
            if not self._buckets.take((what, sender), rate=rate):
                raise RateLimited(
                    f"This {what} sends more than {rate:g} requests per second ({what}_max_request_rate)."
                )


def _check_address(scope: Scope) -> None:
    """Refuse a path or a query that is not valid text.

    Raises:
        InvalidRequest: If it is not; the message names the parameter.
    """
    _decode(scope["raw_path"], "path")
    fields = scope["query_string"].split(b"&")
    if len(fields) > _MOST_FIELDS:
        raise InvalidRequest(f"query: must have at most {_MOST_FIELDS} fields.")
    for part in fields:
        name, _, value = part.replace(b"+", b" ").partition(b"=")
        field = _decode(name, "query")
        _decode(value, field[:MOST_CHARACTERS] or "query")


def _decode(raw: bytes, field: str) -> str:
    if _PERCENT.search(raw):
        raise InvalidRequest(f"{field}: has a % that no two hexadecimal digits follow.")
    try:
        return check_text(unquote_to_bytes(raw).decode())
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{field}: must be UTF-8.") from exc
    except ValueError as exc:
        raise InvalidRequest(f"{field}: {exc}.") from exc


async def _checked_body(request: Request, rule: Rule, body: HeldBody) -> Receive:
    """Return where to receive the body from, once as much of it as the rule says has been checked.

    Raises:
        InvalidRequest: If it is not valid JSON.
        RateLimited: If the tenant's bodies need too much memory.
        RequestTooLarge: If it is too long.
    """
    if rule.body is Body.FILE:
        return request.receive
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > rule.body.most_bytes:
        raise too_large(rule.body.most_bytes)
    if rule.body is Body.TEXTS:
        return body.receive
    has_body = declared != "0" or "transfer-encoding" in request.headers
    return await _read_json(body.receive) if has_body else request.receive


async def _read_json(receive: Receive) -> Receive:
    """Read a short JSON body and return a function that receives it again."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _replay(message, receive)
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"".join(pieces)
    if body:
        parse_json(body)
    return _replay({"type": "http.request", "body": body, "more_body": False}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
