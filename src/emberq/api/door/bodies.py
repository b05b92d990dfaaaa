"""Bodies of requests that are kept in memory: counted while they arrive, and bounded together."""

from __future__ import annotations

from collections import Counter
from typing import Final

from starlette.types import Message, Receive

from emberq.api.door.rules import Body
from emberq.errors import RateLimited, RequestTooLarge

#: Bytes of each body that do not count: programs that send thousands of short texts at once must be able to.
_FREE_BYTES: Final = 16 * 1024
#: Most bytes of all bodies of a tenant at once, beyond those.
_TENANT_BYTES: Final = 48 << 20


class HeldBody:
    """The body of one request, received piece by piece.

    Invariant: `held` has the bytes of all bodies of each tenant that were received and not released.
    """

    def __init__(self, receive: Receive, held: Counter[str], tenant: str, kind: Body) -> None:
        """Count a body.

        Args:
            receive: Where it comes from.
            held: Bytes of bodies in memory, by tenant; shared by all requests.
            tenant: The sender.
            kind: What its path does with it.
        """
        self._receive = receive
        self._held = held
        self._tenant = tenant
        self._most = kind.most_bytes
        self._size = self._counted = 0

    async def receive(self) -> Message:
        """Receive the next message.

        Raises:
            RateLimited: If all bodies of the tenant together are too long.
            RequestTooLarge: If this one is.
        """
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise too_large(self._most)
        counted = max(0, self._size - _FREE_BYTES)
        self._held[self._tenant] += counted - self._counted
        self._counted = counted
        if counted and self._held[self._tenant] > _TENANT_BYTES:
            raise RateLimited(f"The tenant sends more than {_TENANT_BYTES >> 20} MiB of bodies at once.")
        return message

    def release(self) -> None:
        """Count it no more."""
        self._held[self._tenant] -= self._counted
        if not self._held[self._tenant]:
            del self._held[self._tenant]


def too_large(most: int) -> RequestTooLarge:
    """Return the error of a body that is longer than `most` bytes."""
    size = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
    return RequestTooLarge(f"The request has more than {size}.")
