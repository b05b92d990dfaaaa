"""Length-prefixed JSON messages over a local socket, with file descriptors riding along."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["Frame", "is_readable", "receive", "send"]

#: One message: a JSON object.
Frame = dict[str, Any]

_HEADER = struct.Struct("!I")
#: Descriptors one message may carry.
_MAX_DESCRIPTORS = 4


def send(channel: socket.socket, frame: Frame, *, descriptors: Sequence[int] = ()) -> None:
    """Send one message.

    Raises:
        OSError: If the other end is gone.
    """
    body = json.dumps(frame).encode()
    header = _HEADER.pack(len(body))
    if descriptors:
        socket.send_fds(channel, [header], list(descriptors))
    else:
        channel.sendall(header)
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[Frame | None, list[int]]:
    """Receive one message and the descriptors sent with it.

    Returns:
        The message, or nothing when the other end is gone, and the descriptors, now this process's.
    """
    try:
        header, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, _MAX_DESCRIPTORS)
        while header and len(header) < _HEADER.size:
            header += _receive_exactly(channel, _HEADER.size - len(header))
        body = _receive_exactly(channel, _HEADER.unpack(header)[0]) if header else b""
    except (ConnectionError, EOFError):
        return None, []
    if not header:
        return None, []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    frame: Frame = json.loads(body)
    return frame, list(descriptors)


def is_readable(channel: socket.socket, timeout_seconds: float) -> bool:
    """Wait until there is something to receive, the other end's close among it.

    Args:
        channel: The socket.
        timeout_seconds: How long to wait at most; 0 only looks.

    Returns:
        Whether there is something.
    """
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(timeout_seconds * 1000))


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
