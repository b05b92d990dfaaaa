"""A request as a stream: its body, read up to a limit, and its client, who may hang up before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from emberq.errors import EmberqError, InvalidRequest

T = TypeVar("T")


class ClientGone(Exception):
    """The client hung up before its answer was ready."""


async def body_chunks(request: Request, *, max_bytes: int, too_large: EmberqError) -> AsyncIterator[bytes]:
    """Yield a request's body chunk by chunk, as it arrives.

    Args:
        request: The request; its body has not been read yet.
        max_bytes: Longest body.
        too_large: The error for a longer body; raised as soon as that many bytes have arrived.

    Raises:
        EmberqError: `too_large`, if the body is longer than `max_bytes`.
        InvalidRequest: If the client hangs up before the end of the body.
    """
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            if chunk:
                yield chunk
    except ClientDisconnect as exc:
        raise InvalidRequest("The upload was cut short.", hint="Send it again; nothing was kept.") from exc


async def answer_or_client_gone(request: Request, answer: Awaitable[T]) -> T:
    """Wait for an answer for as long as the client waits.

    Args:
        request: A request whose body has been read.
        answer: What to wait for; it is cancelled if the client hangs up.

    Raises:
        ClientGone: If the client hung up first.
        Exception: Whatever `answer` raises.
    """
    waiting = asyncio.ensure_future(answer)
    if waiting.done():
        return waiting.result()
    hung_up = asyncio.ensure_future(_until_hung_up(request))
    try:
        await asyncio.wait((waiting, hung_up), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientGone
        return waiting.result()
    finally:
        hung_up.cancel()
        waiting.cancel()
        await asyncio.gather(waiting, hung_up, return_exceptions=True)


async def _until_hung_up(request: Request) -> None:
    # `Request.is_disconnected` looks for a moment only, too briefly to hear of it behind a middleware.
    while (await request.receive())["type"] != "http.disconnect":
        pass
