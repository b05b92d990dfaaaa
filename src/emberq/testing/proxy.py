"""A TCP proxy that breaks connections on command: cuts them, delays bytes, drops answers, goes silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from emberq.testing.ports import free_port

__all__ = ["TcpProxy"]

#: The ends of one forwarded connection: to the client and to the server.
Link = tuple[asyncio.StreamWriter, asyncio.StreamWriter]

#: Bytes read at once.
_CHUNK_BYTES = 65536
#: Seconds the proxy's thread may take to start or stop.
_THREAD_SECONDS = 60.0
#: SO_LINGER with no time: closing sends a reset (RST) instead of an orderly end (FIN).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpProxy:
    """A proxy between a client and a server; it listens on the loopback interface, in a thread of its own.

    Example:
        >>> with TcpProxy(("127.0.0.1", 6379)) as proxy:
        ...     client = Redis(port=proxy.port)
        ...     proxy.cut()  # every connection breaks, new connections are refused
        ...     proxy.heal()  # new connections work again

    Invariant: forwarded bytes arrive in order and unchanged; a fault happens only on command.
    """

    def __init__(self, target: tuple[str, int] | str, *, tls: ssl.SSLContext | None = None) -> None:
        """Take the address of the server; nothing is opened yet.

        Args:
            target: Host and port, or the path of a Unix socket.
            tls: Server context for TLS with the client; the connection to the server is not encrypted.
        """
        self._target = target
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="emberq-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: dict[Link, asyncio.Task[Any] | None] = {}
        self._delay_seconds = 0.0
        self._silent = False
        self._swallow_answers = False
        self._swallow_once = False
        #: The port that clients connect to; it stays the same until the proxy ends.
        self.port = 0
        #: Connections accepted so far.
        self.accepted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_THREAD_SECONDS)
        self._loop.close()

    @property
    def open_connections(self) -> int:
        """The number of connected clients."""
        return len(self._links)

    def cut(self, *, refuse: bool = True) -> None:
        """Break every connection with a reset.

        Args:
            refuse: Refuse new connections until `heal`.
        """
        self._call(self._cut(refuse=refuse))

    def delay(self, seconds: float) -> None:
        """Delay every byte by this time in each direction; a round trip takes twice as long."""
        self._delay_seconds = seconds

    def half_open(self) -> None:
        """Go silent: connections stay open and new ones are accepted, but no byte is forwarded."""
        self._silent = True

    def swallow_answers(self, *, once: bool = False) -> None:
        """Forward requests, but break the connection instead of forwarding the answer.

        The client cannot know whether its request was executed.

        Args:
            once: Break it at the next answer only.
        """
        self._swallow_answers, self._swallow_once = True, once

    def heal(self) -> None:
        """Forward everything again; connections that were silent are broken, because bytes are missing."""
        self._call(self._heal())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_THREAD_SECONDS)

    async def _listen(self) -> None:
        # Not a port that the system chooses: it could give that to a connection while this one is cut.
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)

    async def _cut(self, *, refuse: bool) -> None:
        if refuse and self._server is not None:
            self._server.close()
            self._server = None
        ending = [task for task in self._links.values() if task is not None]
        for link in list(self._links):
            _reset(link)
        if ending:
            await asyncio.wait(ending)

    async def _heal(self) -> None:
        was_silent = self._silent
        self._silent = self._swallow_answers = False
        self._delay_seconds = 0.0
        if was_silent:
            await self._cut(refuse=False)
        if self._server is None:
            await self._listen()

    async def _stop(self) -> None:
        await self._cut(refuse=True)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            their_reader, their_writer = await self._connect()
        except OSError:
            _reset((writer, writer))
            return
        link = (writer, their_writer)
        self._links[link] = asyncio.current_task()
        try:
            await asyncio.gather(
                self._forward(reader, their_writer, swallow=lambda: False),
                self._forward(their_reader, writer, swallow=self._is_swallowed),
            )
        except OSError:
            _reset(link)
        finally:
            self._links.pop(link, None)
            for end in link:
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    def _is_swallowed(self) -> bool:
        swallow = self._swallow_answers
        if self._swallow_once:
            self._swallow_answers = False
        return swallow

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, swallow: Callable[[], bool]
    ) -> None:
        """Forward one direction; reading continues while earlier bytes are delayed, as on a long wire."""
        wire: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        carrier = asyncio.create_task(self._carry(wire, writer))
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if swallow():
                    raise ConnectionResetError
                if not self._silent:
                    wire.put_nowait((self._loop.time() + self._delay_seconds, data))
            if not self._silent:
                wire.put_nowait((self._loop.time() + self._delay_seconds, b""))
                await carrier
        finally:
            carrier.cancel()

    async def _carry(self, wire: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await wire.get()
                await asyncio.sleep(due - self._loop.time())
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()


def _reset(link: Link) -> None:
    for end in link:
        raw = end.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.transport.abort()
