"""Ports of the loopback interface."""

from __future__ import annotations

import contextlib
import secrets
import socket

__all__ = ["free_port"]

#: Below the ports that Linux and macOS give to outgoing connections, above those of well-known services.
_FIRST, _END = 15_000, 32_000


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens.

    The system gives ports of a higher range to outgoing connections. One of those could be taken before the
    caller listens on it; this one stays free unless a server is told to use it.
    """
    while True:
        port = _FIRST + secrets.randbelow(_END - _FIRST)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
