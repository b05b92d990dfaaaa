"""Bodies that are kept in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

import pytest
from starlette.types import Message

from emberq.api.door import bodies
from emberq.api.door.bodies import HeldBody
from emberq.api.door.rules import TEXTS_BYTES, Body
from emberq.errors import RateLimited, RequestTooLarge


def body(held: Counter[str], sizes: Iterable[int], *, tenant: str = "a", kind: Body = Body.TEXTS) -> HeldBody:
    messages = iter([{"type": "http.request", "body": bytes(size), "more_body": True} for size in sizes])

    async def receive() -> Message:
        return next(messages)

    return HeldBody(receive, held, tenant, kind)


def receive(one: HeldBody, times: int) -> None:
    async def run() -> None:
        for _ in range(times):
            await one.receive()

    asyncio.run(run())


def test_a_body_is_refused_at_the_first_byte_too_many() -> None:
    held: Counter[str] = Counter()
    one = body(held, [TEXTS_BYTES, 1])
    receive(one, 1)
    with pytest.raises(RequestTooLarge, match="8 MiB"):
        receive(one, 1)
    with pytest.raises(RequestTooLarge, match="64 KiB"):
        receive(body(held, [65537], kind=Body.JSON), 1)


def test_the_bodies_of_a_tenant_are_bounded_together_and_room_comes_back() -> None:
    held: Counter[str] = Counter()
    kept = [body(held, [TEXTS_BYTES]) for _ in range(bodies._TENANT_BYTES // TEXTS_BYTES)]
    for one in kept:
        receive(one, 1)
    with pytest.raises(RateLimited):
        receive(last := body(held, [TEXTS_BYTES]), 1)
    receive(body(held, [TEXTS_BYTES], tenant="b"), 1)
    last.release()
    kept[0].release()
    receive(body(held, [TEXTS_BYTES]), 1)


def test_short_bodies_do_not_count() -> None:
    held: Counter[str] = Counter()
    for _ in range(10_000):
        receive(body(held, [8192, 8192]), 2)
    assert not +held
