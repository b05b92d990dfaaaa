"""One factory for Redis connection pools, two profiles, and why they differ.

=========  =================================================  =========================================
profile    what is special                                    why
=========  =================================================  =========================================
`client`   text answers, 5 s socket time-out, small           API and tools must not hang on a dead socket
`worker`   raw bytes, no socket time-out, keep-alive          RQ stores compressed bytes, and a blocking
                                                              pop may rightly wait for minutes
=========  =================================================  =========================================
"""

from __future__ import annotations

import os
import threading
from typing import Any, Literal

from redis import BlockingConnectionPool, ConnectionPool
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from emberq.worker.holdings import hold

__all__ = ["Profile", "close_redis_pools", "connected_sockets", "get_redis_pool"]

Profile = Literal["client", "worker"]

#: Connections one process may hold per profile; a bound, so that a leak shows here and not in the server.
_MAX_CONNECTIONS = {"client": 16, "worker": 10}
#: Seconds a client waits for an answer before it takes the socket for dead.
_CLIENT_TIMEOUT_SECONDS = 5.0
#: Seconds to wait for a connection to be accepted.
_CONNECT_TIMEOUT_SECONDS = 5.0
#: Reconnects per command, with 0.05 to 1 s between them.
_RETRIES = 3

_pools: dict[tuple[str, Profile, int], ConnectionPool] = {}
_lock = threading.Lock()


def get_redis_pool(kind: Profile, url: str) -> ConnectionPool:
    """Return the process's one pool of this profile and server.

    Args:
        kind: `client` or `worker`; see the module for the difference.
        url: `redis://`, `rediss://` or `unix://`.

    Raises:
        ValueError: If the URL is of another kind.
    """
    # The process id is part of the key, so that a forked child opens sockets of its own.
    key = (url, kind, os.getpid())
    with _lock:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = _make_pool(kind, url)
        return pool


@hold
def _own_pools() -> list[ConnectionPool]:
    return [pool for (_, _, pid), pool in _pools.items() if pid == os.getpid()]


def close_redis_pools() -> None:
    """Close the connections of every pool of this process."""
    with _lock:
        for key in [key for key in _pools if key[2] == os.getpid()]:
            _pools.pop(key).disconnect()


def connected_sockets(pool: ConnectionPool) -> int:
    """Return how many sockets a pool holds open."""
    free = pool._available_connections  # noqa: SLF001 - redis-py has no public count of open sockets
    busy = pool._in_use_connections  # noqa: SLF001 - the same
    return sum(1 for connection in [*free, *busy] if getattr(connection, "_sock", None) is not None)


def _make_pool(kind: Profile, url: str) -> ConnectionPool:
    options: dict[str, Any] = {
        "max_connections": _MAX_CONNECTIONS[kind],
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "health_check_interval": 30,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), _RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }
    if url.startswith("unix://"):
        options.pop("socket_connect_timeout")
    else:
        options["socket_keepalive"] = True
    if kind == "client":
        return BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            socket_timeout=_CLIENT_TIMEOUT_SECONDS,
            timeout=_CLIENT_TIMEOUT_SECONDS,
            **options,
        )
    return ConnectionPool.from_url(url, decode_responses=False, socket_timeout=None, **options)
