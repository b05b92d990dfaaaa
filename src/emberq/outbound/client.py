"""The HTTP client for requests to other servers: it checks addresses at each connect and bounds answers."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

from emberq.outbound.addresses import AllowedTargets, parse_address
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds for opening a connection, and for each piece of an answer.
_CONNECT_SECONDS, _PIECE_SECONDS = 10.0, 60.0
#: Redirects that a request follows, if it follows any.
_MAX_REDIRECTS = 5
_MAX_CONNECTIONS = 64
#: The extension of a request that holds its deadline; a redirected request has it, too.
_DEADLINE = "emberq.deadline"

Resolve = Callable[[str, int], Iterable[str]]

#: The deadline of the request that this thread sends or whose answer it reads, by the monotonic clock.
_deadline: ContextVar[float] = ContextVar("emberq_outbound_deadline")


class TargetRefused(httpx.ConnectError):
    """The address of a request's target is not allowed."""


class AnswerTooLarge(httpx.ReadError):
    """An answer is larger than the caller accepts, or is compressed although that was not asked for."""


class OutboundClient(httpx.Client):
    """Sends requests to other servers; thread-safe, to be closed by its maker.

    Its methods raise `httpx.TransportError`: `TargetRefused`, `AnswerTooLarge`, or what happened on the
    network. No proxy and no password is taken from the environment, and of certificates only `SSL_CERT_FILE`
    and `SSL_CERT_DIR`.
    """

    def __init__(
        self,
        *,
        allowed: AllowedTargets,
        max_bytes: int,
        total_seconds: float,
        piece_seconds: float = _PIECE_SECONDS,
        follow_redirects: bool = False,
        base_url: str = "",
        headers: dict[str, str] | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """Prepare requests.

        Args:
            allowed: The targets that are allowed besides public addresses.
            max_bytes: Largest body of an answer.
            total_seconds: Time limit of a request, from the first connection to the last byte, redirects
                included. The resolution of a name is bounded by the system's resolver instead.
            piece_seconds: Longest wait for the next piece of an answer.
            follow_redirects: Whether up to five redirects are followed; each target is checked.
            base_url: Put before relative URLs.
            headers: Sent with each request.
            resolve: Returns the addresses of a host; the system's resolver if not given.
        """
        super().__init__(
            transport=_CheckedTransport(
                allowed, max_bytes=max_bytes, total_seconds=total_seconds, resolve=resolve or _resolve
            ),
            base_url=base_url,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=httpx.Timeout(piece_seconds, connect=_CONNECT_SECONDS),
            follow_redirects=follow_redirects,
            max_redirects=_MAX_REDIRECTS,
            trust_env=False,
        )


class _CheckedTransport(httpx.BaseTransport):
    """Sends requests over connections whose addresses were checked."""

    def __init__(
        self, allowed: AllowedTargets, *, max_bytes: int, total_seconds: float, resolve: Resolve
    ) -> None:
        self._max_bytes = max_bytes
        self._total_seconds = total_seconds
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            network_backend=_CheckedBackend(allowed, resolve),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = request.extensions.setdefault(_DEADLINE, time.monotonic() + self._total_seconds)
        with _errors_of(request), _until(deadline):
            answer = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        stream = _BoundedStream(answer, request, self._max_bytes, deadline)
        try:
            stream.check_head()
        except BaseException:
            stream.close()
            raise
        # A cookie would be kept for the requests of others.
        headers = [(name, value) for name, value in answer.headers if name.lower() != b"set-cookie"]
        return httpx.Response(answer.status, headers=headers, stream=stream, extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _BoundedStream(httpx.SyncByteStream):
    """The body of an answer, counted while it arrives."""

    def __init__(
        self, answer: httpcore.Response, request: httpx.Request, max_bytes: int, deadline: float
    ) -> None:
        self._answer = answer
        self._request = request
        self._max_bytes = max_bytes
        self._deadline = deadline

    def check_head(self) -> None:
        """Raise `AnswerTooLarge` if the headers show that the body cannot be accepted."""
        headers = httpx.Headers(self._answer.headers)
        if headers.get("content-encoding", "identity").lower() != "identity":
            # A small body may become a large one; `identity` was asked for.
            raise AnswerTooLarge("The answer is compressed", request=self._request)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes and self._request.method != "HEAD":
            raise self._too_large()

    def __iter__(self) -> Iterator[bytes]:
        received, pieces = 0, iter(self._answer.iter_stream())
        while True:
            with _errors_of(self._request), _until(self._deadline):
                piece = next(pieces, None)
            if piece is None:
                return
            received += len(piece)
            if received > self._max_bytes:
                raise self._too_large()
            yield piece

    def close(self) -> None:
        with _errors_of(self._request), _until(self._deadline):
            self._answer.close()

    def _too_large(self) -> AnswerTooLarge:
        return AnswerTooLarge(f"The answer is larger than {self._max_bytes} bytes", request=self._request)


class _CheckedBackend(httpcore.NetworkBackend):
    """Opens connections to addresses that were checked, and to no others.

    A name is resolved once per connection. The addresses of the answer are checked and connected to as
    numbers, so that no second answer can replace them.
    """

    def __init__(self, allowed: AllowedTargets, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = list(dict.fromkeys(self._resolve(host, port)))
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError(f"The name {host} cannot be resolved") from exc
        for address in addresses:
            if not self._allowed.permits(host, port, parse_address(address)):
                log.warning("outbound_refused", host=host, port=port, address=address)
                raise TargetRefused(f"The address of {host} is not public")
        failure: Exception = httpcore.ConnectError(f"The name {host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _seconds_left(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = type(exc)(f"No connection to {host}")
            else:
                return _DeadlineStream(stream)
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        del timeout, socket_options
        raise TargetRefused(f"The socket {path} is not a server.")

    def sleep(self, seconds: float) -> None:
        self._sockets.sleep(seconds)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every operation ends at the request's deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _seconds_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _seconds_left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _seconds_left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@functools.lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    """Return the context of all connections; reading the certificates takes 20 ms."""
    return httpx.create_ssl_context()


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


@contextlib.contextmanager
def _until(deadline: float) -> Iterator[None]:
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def _seconds_left(timeout: float | None) -> float:
    """Return a timeout that does not pass the deadline."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("The request took longer than its time limit")
    return left if timeout is None else min(timeout, left)


@contextlib.contextmanager
def _errors_of(request: httpx.Request) -> Iterator[None]:
    """Turn the errors of httpcore into those of httpx, whose classes have the same names."""
    try:
        yield
    except httpx.RequestError as exc:
        exc.request = request
        raise
    except tuple(_ERRORS) as exc:
        raise _ERRORS[type(exc)](str(exc), request=request) from exc


_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        *("ConnectError", "ReadError", "WriteError", "ConnectTimeout", "ReadTimeout", "WriteTimeout"),
        *("PoolTimeout", "LocalProtocolError", "RemoteProtocolError", "UnsupportedProtocol", "ProxyError"),
    )
}
