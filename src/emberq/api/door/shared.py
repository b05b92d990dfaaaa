"""Answers that are the same for all: made once for all requests of a moment, and sent in pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, TypeVar

from fastapi import Response
from fastapi.responses import StreamingResponse

T = TypeVar("T")

#: Bytes of a piece.
_PIECE_BYTES: Final = 64 * 1024


class SharedAnswer(Generic[T]):
    """What requests without a key ask for: one of them at a time has it made, the others get the same.

    So a flood of such requests takes one thread and one connection to PostgreSQL.
    """

    def __init__(self, *, seconds: float) -> None:
        """Start with no answer.

        Args:
            seconds: For how long an answer is given after it was made.
        """
        self._seconds = seconds
        self._made: asyncio.Task[T] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fresh_until = 0.0

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return the answer, and make it if there is none.

        Raises:
            Exception: Whatever `make` raises, to all who wait for it.
        """
        loop = asyncio.get_running_loop()
        made = self._made
        if made is None or self._loop is not loop or (made.done() and time.monotonic() >= self._fresh_until):
            made = self._made = asyncio.ensure_future(self._make(make))
            self._loop = loop
        # Shielded: a client that hangs up must not end the wait of the others.
        return await asyncio.shield(made)

    async def _make(self, make: Callable[[], Awaitable[T]]) -> T:
        self._fresh_until = 0.0
        answer = await make()
        self._fresh_until = time.monotonic() + self._seconds
        return answer


def send_in_pieces(body: bytes, *, media_type: str) -> Response:
    """Return a response that hands a body to the connection as fast as its client reads.

    A client that does not read holds a piece, not a copy of the body.
    """

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), _PIECE_BYTES):
            yield body[start : start + _PIECE_BYTES]

    return StreamingResponse(pieces(), media_type=media_type, headers={"Content-Length": str(len(body))})
