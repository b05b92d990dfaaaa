"""A connection of the API: it has to send, and to read its answer, at a pace that is not an attack."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from emberq.api.problems import problem_response
from emberq.errors import EmberqError, InvalidRequest, RateLimited, RequestTooSlow
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)
#: Uvicorn's log of a connection, without its warnings: anyone may send what is no HTTP, again and again.
_errors = logging.getLogger("uvicorn.error.connection")
_errors.setLevel(logging.ERROR)

#: Most bytes and lines of a request's line and headers, and of the trailers of a chunked body. Each header
#: costs as much as a thousand bytes.
HEAD_BYTES, HEAD_LINES = 16 * 1024, 200
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
#: The beginning of the last chunk of a body, whose trailers follow, and the end of the chunk before it.
_LAST_CHUNK: Final = re.compile(rb"(?:\r?\n)?0+[^0-9A-Fa-f]")
#: Seconds in which the line and the headers of a request have to arrive.
HEADER_SECONDS: Final = 20.0
#: Seconds, and bytes that have to pass in each such time while a body or an answer is under way.
WINDOW_SECONDS, WINDOW_BYTES = 30.0, 30 * 1024
#: Most bytes of answers of all connections that wait in memory until their clients read them.
MOST_UNREAD_BYTES = 256 << 20
#: Bytes of a refused body that are read so that the client sees the answer. Most clients read only once they
#: have sent everything, and a connection that is closed on unread bytes takes the answer with it.
_LINGER_BYTES: Final = 256 << 20
#: Seconds for that.
_LINGER_SECONDS: Final = 30.0
#: Bytes of a refused body for which the connection is kept for the next request.
_KEPT_BYTES: Final = 256 * 1024
#: Pieces of a chunked body, and the least bytes of a piece on average once there are as many. Each piece
#: costs as much as a thousand bytes.
_FEW_PIECES, _PIECE_BYTES = 1000, 32


class _Window:
    """Tells whether enough bytes pass in each `WINDOW_SECONDS`."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._bytes = 0

    @property
    def since(self) -> float:
        """Since when too few bytes have passed, by the monotonic clock; infinite if nothing is under way."""
        return math.inf if self._since is None else self._since

    def reset(self) -> None:
        self._since = None

    def is_slow(self, now: float, passed: int) -> bool:
        """Tell whether too few bytes have passed; `passed` counts all of them since the connection."""
        if self._since is None or passed - self._bytes >= WINDOW_BYTES:
            self._since, self._bytes = now, passed
        return now - self._since >= WINDOW_SECONDS


class _Transport:
    """A transport that counts what is written, and leaves its closing to the connection."""

    def __init__(self, transport: asyncio.Transport, connection: DoorProtocol) -> None:
        self._transport = transport
        self._connection = connection
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)

    def close(self) -> None:
        self._connection.close()


class _Parser(h11.Connection):
    """A parser that refuses long heads and trailers, requests of two lengths, and bodies in tiny chunks.

    Attributes:
        is_chunked: Whether the body under way comes in chunks.
    """

    is_chunked = False
    _pieces = _body_bytes = 0
    _is_between_chunks = _is_in_trailers = False

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            _check_head(self.trailing_data[0])
        elif self.their_state is h11.SEND_BODY and self.is_chunked:
            self._check_trailers(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._body_bytes = 0
            names = {name for name, _ in event.headers}
            self.is_chunked = self._is_between_chunks = b"transfer-encoding" in names
            self._is_in_trailers = False
            if self.is_chunked and b"content-length" in names:
                # A proxy that believes the other one sees another request behind this one.
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._body_bytes += len(event.data)
            self._is_between_chunks = event.chunk_end
            if self._pieces > _FEW_PIECES and self._body_bytes < self._pieces * _PIECE_BYTES:
                raise h11.RemoteProtocolError("the chunks of the body are too small")
        return event

    def _check_trailers(self, received: bytes) -> None:
        if self._is_between_chunks and _LAST_CHUNK.match(received):
            self._is_in_trailers = True
        if self._is_in_trailers:
            _check_head(received)


def _check_head(received: bytes) -> None:
    """Refuse a head before it is parsed, if it is too long; what follows it does not count."""
    end = _END_OF_HEAD.search(received)
    size = len(received) if end is None else end.end()
    if size > HEAD_BYTES or received.count(b"\n", 0, size) > HEAD_LINES:
        raise h11.RemoteProtocolError(
            f"the line and the headers have more than {HEAD_BYTES} bytes or {HEAD_LINES} lines",
            error_status_hint=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        )


def drop_unread(connections: Iterable[DoorProtocol]) -> None:
    """Drop the connections that have not read for the longest time, until few enough bytes wait in memory."""
    waiting = sorted(((*one.unread, id(one), one) for one in connections), key=lambda entry: entry[:3])
    left = sum(size for _, size, _, _ in waiting)
    for _, size, _, one in waiting:
        if left <= MOST_UNREAD_BYTES:
            return
        if size:
            log.warning("unread_answer_dropped", waiting_bytes=size)
            one.abort()
            left -= size


class DoorProtocol(H11Protocol):
    """Uvicorn's HTTP protocol, with the time limits and the limit of connections that it lacks.

    The server calls `check` every second. Invariants: a connection whose client stops to send or to read ends
    after `HEADER_SECONDS` or `WINDOW_SECONDS`; the time in which this side does not read does not count. An
    address has at most `most` connections.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        addresses: Counter[str],
        most: int,
    ) -> None:
        """Make the protocol of one connection.

        Args:
            config: Uvicorn's.
            server_state: Uvicorn's.
            app_state: Uvicorn's.
            addresses: The number of connections of each address, shared by all connections of the server.
            most: Most connections of an address.
        """
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _errors
        self.conn = self._parser = _Parser(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._addresses = addresses
        self._most = most
        self._address = ""
        self._head_since: float | None = time.monotonic()
        self._received = 0
        self._refused_bytes = 0
        self._reads, self._writes = _Window(), _Window()
        self._lingers_since: float | None = None
        self._is_stopping = False
        self._real: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and refuse it if its address has too many."""
        self._real = transport
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]
        self._address = self.client[0] if self.client else ""
        self._addresses[self._address] += 1
        number = self._addresses[self._address]
        if number > self._most:
            if number == self._most + 1:
                log.warning("connections_refused", address=self._address, connections=self._most)
            self._refuse(RateLimited(f"This address has {self._most} connections already."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no more."""
        self._addresses[self._address] -= 1
        if not self._addresses[self._address]:
            del self._addresses[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the request was refused."""
        while data:
            # In pieces, so that looking at what has not been parsed yet costs little.
            is_body = self.conn.their_state is h11.SEND_BODY and not self._parser.is_chunked
            size = len(data) if is_body else HEAD_BYTES
            self._receive(data[:size])
            data = data[size:]

    def _receive(self, data: bytes) -> None:
        self._received += len(data)
        if self._lingers_since is not None:
            self._refused_bytes += len(data)
            if self._refused_bytes > _LINGER_BYTES:
                self._real.abort()
            return
        if self._is_answered and self.conn.their_state is h11.SEND_BODY:
            self._refused_bytes += len(data)
            if self._refused_bytes > _KEPT_BYTES:
                self.close()
                return
        if self._head_since is None and self._is_answered and self.conn.their_state is h11.IDLE:
            self._head_since = time.monotonic()
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._head_since = None
            self._refused_bytes = 0
            self._reads.reset()

    def close(self) -> None:
        """Close the connection, once a client that is still sending has had time to read its answer."""
        if self._lingers_since is not None or self._real.is_closing():
            return
        is_sending = self._head_since is not None or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if self._is_stopping or not is_sending or not self._real.can_write_eof():
            self._real.close()
            return
        self._lingers_since = time.monotonic()
        self._real.write_eof()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """End the connection, after the answer that is under way, because the server stops."""
        self._is_stopping = True
        if self._lingers_since is not None:
            self._real.abort()
        else:
            super().shutdown()

    def check(self, now: float) -> None:
        """End the connection if its client is too slow.

        Args:
            now: Seconds of the monotonic clock.
        """
        if self._lingers_since is not None:
            if now - self._lingers_since > _LINGER_SECONDS:
                self._real.abort()
            return
        left = self._real.get_write_buffer_size()
        if not left:
            self._writes.reset()
        elif self._writes.is_slow(now, self.transport.written - left):  # type: ignore[attr-defined]
            self._real.abort()
            return
        if self._head_since is not None and now - self._head_since > HEADER_SECONDS:
            self._refuse(RequestTooSlow(f"The headers took longer than {HEADER_SECONDS:g} seconds."))
        elif self._waits_for_body:
            if self._reads.is_slow(now, self._received):
                self._refuse(RequestTooSlow("The body arrives too slowly."))
        else:
            self._reads.reset()

    @property
    def unread(self) -> tuple[float, int]:
        """Since when the client reads too little, and how many bytes of answers wait for it."""
        return self._writes.since, self._real.get_write_buffer_size()

    def abort(self) -> None:
        """Drop the connection and what waits for its client."""
        self._real.abort()

    @property
    def _exchange(self) -> RequestResponseCycle | None:
        """The newest request of the connection and its answer, if there is one."""
        return cast("RequestResponseCycle | None", self.cycle)

    @property
    def _is_answered(self) -> bool:
        return self._exchange is None or self._exchange.response_complete

    @property
    def _waits_for_body(self) -> bool:
        """Whether the client has to send more of a body, and this side reads it."""
        exchange = self._exchange
        if exchange is None or self.conn.their_state is not h11.SEND_BODY or self.flow.read_paused:
            return False
        return not exchange.waiting_for_100_continue

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP request with a problem document."""
        error = sys.exception()
        hint = getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST)
        status = hint if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else HTTPStatus.BAD_REQUEST
        self._refuse(InvalidRequest(f"{msg.rstrip('.')}: {error}."), status=status)

    def _refuse(self, error: EmberqError, *, status: int | None = None) -> None:
        """Answer with an error, unless an answer is under way, and close the connection."""
        if self._exchange is not None and not self._exchange.response_complete:
            # The application sees a client that hung up.
            self._exchange.disconnected = True
            self._exchange.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = problem_response(error, instance="", status=status)
            headers = [*answer.raw_headers, (b"connection", b"close")]
            reason = HTTPStatus(answer.status_code).phrase.encode()
            for event in (
                h11.Response(status_code=answer.status_code, headers=headers, reason=reason),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.close()
