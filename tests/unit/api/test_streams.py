from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from fastapi import Request
from starlette.types import Message

from emberq.api.streams import ClientGone, answer_or_client_gone, body_chunks
from emberq.errors import InvalidRequest, RequestTooLarge


def request(messages: Sequence[Message]) -> Request:
    """A request whose client sends these messages, and then neither speaks nor hangs up."""
    left = iter(messages)

    async def receive() -> Message:
        for message in left:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "method": "PUT", "path": "/", "headers": []}, receive)


def body(*chunks: bytes) -> list[Message]:
    return [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]


END: Message = {"type": "http.request", "body": b"", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def read(messages: Sequence[Message], *, max_bytes: int) -> list[bytes]:
    async def collect() -> list[bytes]:
        chunks = body_chunks(request(messages), max_bytes=max_bytes, too_large=RequestTooLarge("too long"))
        return [chunk async for chunk in chunks]

    return asyncio.run(collect())


def test_a_body_is_read_up_to_its_limit() -> None:
    assert read([*body(b"ab", b"", b"cde"), END], max_bytes=5) == [b"ab", b"cde"]


def test_a_body_over_its_limit_is_refused_before_it_ends() -> None:
    with pytest.raises(RequestTooLarge, match="too long"):
        read(body(b"abc", b"def"), max_bytes=5)


def test_a_body_that_the_client_cuts_short_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cut short"):
        read([*body(b"abc"), GONE], max_bytes=5)


async def _answer() -> str:
    await asyncio.sleep(0)
    return "read"


async def _refuse() -> str:
    await asyncio.sleep(0)
    raise InvalidRequest("no")


def test_an_answer_is_returned_to_a_client_that_stays() -> None:
    async def ask() -> str:
        return await answer_or_client_gone(request([END]), _answer())

    assert asyncio.run(ask()) == "read"


def test_an_error_is_raised_to_a_client_that_stays() -> None:
    async def ask() -> str:
        return await answer_or_client_gone(request([END]), _refuse())

    with pytest.raises(InvalidRequest):
        asyncio.run(ask())


def test_an_answer_is_cancelled_when_the_client_hangs_up() -> None:
    async def ask() -> bool:
        never = asyncio.get_running_loop().create_future()
        with pytest.raises(ClientGone):
            await answer_or_client_gone(request([END, GONE]), never)
        return never.cancelled()

    assert asyncio.run(ask())
