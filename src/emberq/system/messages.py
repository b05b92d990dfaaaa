"""Messages over a local socket: a JSON object, raw bytes and file descriptors that ride along."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["Message", "is_readable", "receive", "send"]

#: One message: a JSON object.
Message = dict[str, Any]

#: Sizes in bytes of the JSON object and of the payload.
_HEADER = struct.Struct("!II")
#: Descriptors one message may carry.
_MAX_DESCRIPTORS = 4


def send(
    channel: socket.socket, frame: Message, *, descriptors: Sequence[int] = (), payload: bytes = b""
) -> None:
    """Send one message in one piece.

    Args:
        channel: The socket.
        frame: What can be said in JSON.
        descriptors: File descriptors for the receiver.
        payload: Bytes that the receiver finds as `frame["payload"]`.

    Raises:
        OSError: If the other end is gone.
    """
    body = json.dumps(frame).encode()
    header = _HEADER.pack(len(body), len(payload))
    if descriptors:
        socket.send_fds(channel, [header], list(descriptors))
        header = b""
    channel.sendall(b"".join((header, body, payload)))


def receive(channel: socket.socket) -> tuple[Message | None, list[int]]:
    """Receive one message and the descriptors sent with it.

    Returns:
        The message, or nothing when the other end is gone, and the descriptors, now this process's.
    """
    try:
        header, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, _MAX_DESCRIPTORS)
        if not header:
            return None, []
        while len(header) < _HEADER.size:
            header += _receive_exactly(channel, _HEADER.size - len(header))
        body_size, payload_size = _HEADER.unpack(header)
        rest = memoryview(_receive_exactly(channel, body_size + payload_size))
    except (ConnectionError, EOFError):
        return None, []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    frame: Message = json.loads(bytes(rest[:body_size]))
    if payload_size:
        frame["payload"] = bytes(rest[body_size:])
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
