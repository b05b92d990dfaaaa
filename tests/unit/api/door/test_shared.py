"""Answers that are the same for all: made by one request at a time, for all of them."""

from __future__ import annotations

import asyncio

import pytest

from emberq.api.door.shared import SharedAnswer


class Maker:
    """Makes an answer when it is let, and counts how often it is asked."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.made = 0

    async def make(self) -> int:
        self.made += 1
        await self.let.wait()
        return self.made


async def _ask(shared: SharedAnswer[int], maker: Maker, times: int) -> list[asyncio.Task[int]]:
    asked = [asyncio.ensure_future(shared.get(maker.make)) for _ in range(times)]
    await asyncio.sleep(0)
    return asked


def test_all_requests_of_a_moment_share_one_answer() -> None:
    async def run() -> None:
        shared, maker = SharedAnswer[int](seconds=0.0), Maker()
        asked = await _ask(shared, maker, 50)
        asked[0].cancel()
        await asyncio.sleep(0)
        maker.let.set()
        assert await asyncio.gather(*asked[1:]) == [1] * 49
        assert await shared.get(maker.make) == 2

    asyncio.run(run())


def test_an_answer_is_given_again_for_its_time() -> None:
    async def run() -> None:
        shared, maker = SharedAnswer[int](seconds=3600.0), Maker()
        maker.let.set()
        assert [await shared.get(maker.make) for _ in range(3)] == [1, 1, 1]

    asyncio.run(run())


def test_a_failure_is_not_kept() -> None:
    async def run() -> None:
        shared, maker = SharedAnswer[int](seconds=3600.0), Maker()
        maker.let.set()

        async def fail() -> int:
            raise RuntimeError("away")

        with pytest.raises(RuntimeError):
            await shared.get(fail)
        assert await shared.get(maker.make) == 1

    asyncio.run(run())
