"""Messages over a local socket: a JSON object, with raw bytes and file descriptors."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

#: One message: a JSON object.
Message = dict[str, Any]

#: Sizes in bytes of the JSON object and of the payload.
_HEADER = struct.Struct("!II")
#: Most descriptors of one message.
_MAX_DESCRIPTORS = 4


def send(
    channel: socket.socket, message: Message, *, descriptors: Sequence[int] = (), payload: bytes = b""
) -> None:
    """Send one message in one piece.

    Args:
        channel: The socket.
        message: A JSON object.
        descriptors: File descriptors for the receiver.
        payload: Bytes that the receiver finds as `message["payload"]`.

    Raises:
        OSError: If the other end is gone.
    """
    body = json.dumps(message).encode()
    header = _HEADER.pack(len(body), len(payload))
    if descriptors:
        socket.send_fds(channel, [header], list(descriptors))
        header = b""
    channel.sendall(b"".join((header, body, payload)))


def receive(channel: socket.socket) -> tuple[Message | None, list[int]]:
    """Receive one message and the descriptors sent with it.

    Returns:
        The message, None when the other end is gone; and the descriptors, which are now this process's.
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
    message: Message = json.loads(bytes(rest[:body_size]))
    if payload_size:
        message["payload"] = bytes(rest[body_size:])
    return message, list(descriptors)


def is_readable(channel: socket.socket, timeout_seconds: float) -> bool:
    """Wait until there is a message to receive, or the other end is closed.

    Args:
        channel: The socket.
        timeout_seconds: How long to wait at most; 0 to return at once.

    Returns:
        Whether there is one.
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
