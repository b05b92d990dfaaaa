"""Redis connection pools: one per process, server and profile.

=========  ================================================  ==========================================
profile    what is special                                   why
=========  ================================================  ==========================================
`client`   text answers, 5 s socket time-out, waits for a    a request must not hang on a dead socket;
           free connection, sends no command twice           the caller decides what may be repeated
`worker`   raw bytes, no socket time-out of its own, raises  RQ stores compressed bytes, a blocking pop
           when full, sends again after a lost connection    may wait for minutes, and RQ's writes may be
                                                             repeated: its delivery is at least once
`control`  raw bytes, 2 s socket time-out, waits for a       the control plane (enqueues tickets, looks
           free connection, sends no command twice           after them) has a host's lease to renew
=========  ================================================  ==========================================

All are bounded, keep connections alive, check idle ones, and reconnect with exponential back-off and jitter.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from weakref import WeakKeyDictionary

from redis import BlockingConnectionPool, ConnectionPool
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import parse_url
from redis.driver_info import DriverInfo
from redis.exceptions import ClusterDownError, ReadOnlyError, TryAgainError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from emberq.retry.classify import ErrorKind, classify_redis_error
from emberq.system.kept_open import keep_open
from emberq.telemetry import metrics

Profile = Literal["client", "worker", "control"]
T = TypeVar("T")

#: Most connections of one process per profile; bounded, so that a leak shows here and not in the server.
_MAX_CONNECTIONS = {"client": 16, "worker": 10, "control": 16}
#: Seconds a client waits for an answer, or for a free connection, before it gives up.
_CLIENT_TIMEOUT_SECONDS = 5.0
#: Seconds to wait for an answer per profile. Several commands to a silent server have to fail within a host's
#: lease of 8 s, as the same thread renews it.
_ANSWER_SECONDS = {"client": _CLIENT_TIMEOUT_SECONDS, "worker": None, "control": 2.0}
#: Seconds to wait for a connection to be accepted.
_CONNECT_TIMEOUT_SECONDS = 5.0
#: Seconds a Sentinel may take to answer; the next one is asked then.
_SENTINEL_TIMEOUT_SECONDS = 1.0
#: Seconds a connection may be idle before it is checked with a PING.
_HEALTH_CHECK_SECONDS = 30
#: Reconnects per command, with 0.05 to 1 s between them; `retry_redis_operation` is for longer outages.
_RETRIES = 3

_pools: dict[tuple[str, Profile], ConnectionPool] = {}
_watched: WeakKeyDictionary[ConnectionPool, Profile] = WeakKeyDictionary()
_lock = threading.Lock()


def get_redis_pool(kind: Profile, url: str) -> ConnectionPool:
    """Return this process's only pool of a profile and a server.

    Args:
        kind: `client`, `worker` or `control`; the module's table has the difference.
        url: `redis://`, `rediss://` (TLS; `?ssl_ca_certs=/path/ca.pem`, `ssl_certfile`, `ssl_keyfile`),
            `unix:///path?db=0`, or `redis+sentinel://host1:26379,host2:26379/mymaster/0` and
            `rediss+sentinel://`. User and password before the `@`; those of the Sentinels themselves
            as `?sentinel_username=…&sentinel_password=…`.

    Raises:
        ValueError: If the URL is of another form.
    """
    with _lock:
        pool = _pools.get((url, kind))
        if pool is None:
            pool = _pools[url, kind] = _make_pool(kind, url)
        return pool


@keep_open
def _own_pools() -> list[ConnectionPool]:
    return list(_pools.values())


def close_redis_pools() -> None:
    """Close the connections of every pool of this process."""
    with _lock:
        while _pools:
            _pools.popitem()[1].disconnect()


def connected_sockets(pool: ConnectionPool) -> int:
    """Return how many open sockets a pool has."""
    idle, in_use = _count(pool)
    return idle + in_use


def watch_redis_pool(kind: Profile, pool: ConnectionPool) -> None:
    """Treat a pool that other code made, e.g. by RQ's command line, as ours in metrics and after forks."""
    _watched[pool] = kind


class _Reconnecting(Retry):
    """redis-py's retries, limited to commands that may be sent again."""

    def __init__(self, *, resend: bool) -> None:
        """With `resend`, send a command again that may have been executed."""
        super().__init__(ExponentialWithJitterBackoff(base=0.05, cap=1.0), _RETRIES)
        self.resend = resend

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002 - redis-py's own signature
    ) -> T:
        """Run a step of redis-py, and again where that is safe."""
        # A check of an idle connection is always safe to repeat: no command has been sent.
        may_repeat = self.resend or getattr(do, "__name__", "") == "_send_ping"

        def may_retry(error: Exception) -> bool:
            outcome = classify_redis_error(error)
            allowed = is_retryable is None or is_retryable(error)
            return allowed and (
                outcome is ErrorKind.NOTHING_HAPPENED or (outcome is ErrorKind.UNKNOWN and may_repeat)
            )

        return super().call_with_retry(do, fail, may_retry, with_failure_count)


def _make_pool(kind: Profile, url: str) -> ConnectionPool:
    options: dict[str, Any] = {
        "max_connections": _MAX_CONNECTIONS[kind],
        "health_check_interval": _HEALTH_CHECK_SECONDS,
        "retry": _Reconnecting(resend=kind == "worker"),
        "retry_on_error": [ReadOnlyError, ClusterDownError, TryAgainError],
        "decode_responses": kind == "client",
        "socket_timeout": _ANSWER_SECONDS[kind],
        "driver_info": _driver_info(),
    }
    if not url.startswith("unix://"):
        options |= {
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive_options(),
            "socket_connect_timeout": min(_CONNECT_TIMEOUT_SECONDS, _ANSWER_SECONDS[kind] or math.inf),
        }
    if "+sentinel://" in url:
        return _make_sentinel_pool(url, options)
    if kind != "worker":
        return BlockingConnectionPool.from_url(url, timeout=_ANSWER_SECONDS[kind], **options)
    return ConnectionPool.from_url(url, **options)


@cache
def _driver_info() -> DriverInfo:
    """Return the client's name and version that each connection sends.

    redis-py by default reads and parses its package's metadata for every connection, which costs each
    process 1.6 MB.
    """
    return DriverInfo()


def _keepalive_options() -> dict[int, int]:
    """Return the keep-alive options of this system: the other machine's end is noticed within 20 seconds."""
    wanted = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _make_sentinel_pool(url: str, options: dict[str, Any]) -> SentinelConnectionPool:
    """Make a pool that asks Sentinels for the primary at every new connection."""
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    scheme = parts.scheme.removesuffix("+sentinel")
    login, _, addresses = parts.netloc.rpartition("@")
    if scheme not in ("redis", "rediss") or not service or not addresses:
        msg = "A Sentinel URL has the form redis+sentinel://host1:26379,host2:26379/mymaster/0"
        raise ValueError(msg)
    query = dict(parse_qsl(parts.query))
    own = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    # redis-py reads user, password, database and options as in a plain URL.
    given: dict[str, Any] = parse_url(  # type: ignore[no-untyped-call]
        f"{scheme}://{login}@localhost/{database or 0}?{urlencode(query)}"
    )
    given.pop("host")
    is_tls = given.pop("connection_class", None) is not None
    tls = {name: value for name, value in given.items() if name.startswith("ssl_")}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_address(address) for address in addresses.split(",")],
        sentinel_kwargs={
            "socket_timeout": _SENTINEL_TIMEOUT_SECONDS,
            "socket_connect_timeout": _SENTINEL_TIMEOUT_SECONDS,
            "ssl": is_tls,
            **(tls if is_tls else {}),
            **own,
        },
    )
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        unquote(service), sentinel, ssl=is_tls, **{**options, **given}
    )


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or 26379


def _count(pool: ConnectionPool) -> tuple[int, int]:
    """Return how many of a pool's open connections are idle and how many in use."""
    free, busy = _connections(pool, "free"), _connections(pool, "in_use")
    return (
        sum(1 for connection in free if connection.is_connected),
        sum(1 for connection in busy if connection.is_connected),
    )


def _connections(pool: ConnectionPool, *states: str) -> set[Any]:
    # redis-py has no public list of them.
    lists = [getattr(pool, f"_get_{state}_connections")() for state in states or ("free", "in_use")]
    return {connection for found in lists for connection in found}


@metrics.sampler
def _sample_pools() -> None:
    pools = {pool: kind for (_, kind), pool in list(_pools.items())} | dict(_watched.items())
    for kind in set(pools.values()):
        counts = [_count(pool) for pool, its_kind in pools.items() if its_kind == kind]
        idle, in_use = (sum(numbers) for numbers in zip(*counts, strict=True))
        metrics.set_pool_connections("redis", kind, idle=idle, in_use=in_use)


def _forget_pools_of_parent() -> None:
    """Close this child's copies of its parent's sockets; the parent's connections go on."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have locked it at the fork
    _lock = threading.Lock()
    for pool in {*_pools.values(), *_watched}:
        for connection in _connections(pool):
            # In a child this closes the copy of the socket and tells the server nothing.
            connection.disconnect()
    _watched.clear()
    while _pools:
        _pools.popitem()[1].reset()


os.register_at_fork(after_in_child=_forget_pools_of_parent)
