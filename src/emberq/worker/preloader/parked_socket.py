"""A listening socket that outlives the processes that serve on it, and that only those have open."""

from __future__ import annotations

import os
import socket

from emberq.system.forks import close_in_children
from emberq.system.messages import send


class ParkedSocket:
    """A listening socket in the queue of a local socket: it listens, and no process can accept from it.

    The process that parks it gives it to the process that serves, and to the next one if that dies. Clients
    that connect in between wait in the backlog. It ends with the process that parked it.
    """

    def __init__(self, listener: socket.socket) -> None:
        """Park a listening socket; this process's own copy is closed."""
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self._entrance, self._exit = (close_in_children(end) for end in socket.socketpair())
        with listener:
            self._park(listener.fileno())

    def give_to(self, channel: socket.socket) -> None:
        """Send it over a channel, in a message; the receiver has it open then.

        Raises:
            OSError: If the other end is gone.
        """
        _, (descriptor, *_), _, _ = socket.recv_fds(self._exit, 1, 1)
        try:
            self._park(descriptor)
            send(channel, {"listener": True}, descriptors=[descriptor])
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close it; a process that serves on it goes on."""
        self._entrance.close()
        self._exit.close()

    def _park(self, descriptor: int) -> None:
        socket.send_fds(self._entrance, [b"\0"], [descriptor])
