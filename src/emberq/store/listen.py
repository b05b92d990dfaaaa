"""LISTEN by polling, without a thread, with automatic reconnection."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
import weakref

from psycopg import Error, pq
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from emberq.retry.backoff import Backoff
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Delays before the next try to connect.
_BACKOFF = Backoff(first_seconds=0.1, longest_seconds=5.0, jitter=0.5)
#: Seconds PostgreSQL may take to accept the connection; short, because the caller has other duties.
_CONNECT_TIMEOUT_SECONDS = 2
#: TCP keepalive: seconds of silence before the first probe, seconds between probes, and number of probes.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}

_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()


class Listener:
    """A connection of its own that listens on one channel.

    `poll` never waits, except for a new connection, and never raises: while the connection is lost, it
    returns nothing and connects again with growing delays.

    Invariant: never used across a fork; a child closes its copy of the socket and receives nothing.
    """

    def __init__(self, url: str, channel: str, *, application_name: str = "emberq-listener") -> None:
        """Prepare to listen; the first `poll` connects.

        Args:
            url: PostgreSQL, as SQLAlchemy writes it.
            channel: The channel of NOTIFY.
            application_name: The name of the connection in `pg_stat_activity`.
        """
        self._conninfo = make_conninfo(
            make_url(url).set(drivername="postgresql").render_as_string(hide_password=False),
            application_name=application_name,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            **_KEEPALIVE,
        ).encode()
        self._channel = channel
        # The bare libpq connection: it reads without waiting, and the end of a forked copy does not close it.
        self._connection: pq.abc.PGconn | None = None
        self._not_before = 0.0
        self._failures = 0
        #: Number of connections made; notices sent before one of them are lost.
        self.connects = 0
        #: Number of connections lost.
        self.losses = 0
        _listeners.add(self)

    @property
    def is_connected(self) -> bool:
        """Whether messages can arrive, as far as is known."""
        return self._connection is not None

    def poll(self) -> list[str]:
        """Return the payloads that have arrived since the last call, oldest first."""
        if self._connection is None and not self._connect():
            return []
        connection = self._connection
        notices: list[str] = []
        try:
            if connection is not None:
                connection.consume_input()
                while notice := connection.notifies():
                    notices.append(notice.extra.decode())
        except Error as exc:
            self.losses += 1
            log.warning("push_lost", channel=self._channel, error=type(exc).__name__)
            self._drop()
        return notices

    def wait(self, seconds: float) -> None:
        """Wait until a notice arrives or the connection breaks, at most `seconds`."""
        if self._connection is None:
            time.sleep(seconds)
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.socket, selectors.EVENT_READ)
            selector.select(seconds)

    def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            self._connection.finish()
            self._connection = None

    def _connect(self) -> bool:
        if time.monotonic() < self._not_before:
            return False
        connection = pq.PGconn.connect(self._conninfo)
        if connection.status == pq.ConnStatus.OK:
            listening = connection.exec_(f"LISTEN {self._channel}".encode())
            is_listening = listening.status == pq.ExecStatus.COMMAND_OK
        else:
            is_listening = False
        if not is_listening:
            connection.finish()
            self._drop()
            log.debug("push_not_connected", channel=self._channel)
            return False
        self._connection = connection
        self._failures = 0
        self.connects += 1
        if self.connects > 1:
            log.info("push_restored", channel=self._channel, connects=self.connects)
        return True

    def _drop(self) -> None:
        """Close what is left of the connection; the next one is made after a delay."""
        self.close()
        self._failures += 1
        self._not_before = time.monotonic() + _BACKOFF.pause_seconds(self._failures)

    def _forget(self) -> None:
        """Close this process's copy of the socket without a message to the server."""
        if self._connection is not None:
            with contextlib.suppress(OSError, Error):
                os.close(self._connection.socket)
            self._connection = None
        self._not_before = float("inf")


def _forget_all() -> None:
    for listener in _listeners:
        listener._forget()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_forget_all)
