"""The heartbeat key that outside monitors read: `worker:heartbeat:{name}`."""

from __future__ import annotations

import time

from redis import Redis

#: Seconds until the key of a silent worker disappears.
HEARTBEAT_TTL_SECONDS = 60
#: Seconds between two heartbeats; a third of what the contract allows, so that one may be lost.
HEARTBEAT_REFRESH_SECONDS = 10.0


def heartbeat_key(worker_name: str) -> str:
    """Return the key of a worker's heartbeat."""
    return f"worker:heartbeat:{worker_name}"


def write_heartbeat(connection: Redis, worker_name: str) -> None:
    """Write the time (whole seconds since 1970) under the worker's key, for 60 seconds."""
    connection.set(heartbeat_key(worker_name), int(time.time()), ex=HEARTBEAT_TTL_SECONDS)
