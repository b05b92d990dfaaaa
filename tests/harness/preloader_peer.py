"""The far ends of the sockets to a preloader and its children: a test sends over them what these would."""

from __future__ import annotations

import itertools
import socket
from typing import Any, Self

from emberq.system.messages import is_readable, receive, send
from emberq.worker.preloader.preloader import Preloader

__all__ = ["PreloaderPeer", "Sockets", "no_process"]

#: Linux gives no process an id above this one, so that a signal to it reaches none.
_MAX_PID = 2**22
#: All messages of a test are sent before they are read, so that one that is missing would never come.
_NEVER_SECONDS = 5.0
_numbers = itertools.count(_MAX_PID + 1)


def no_process() -> int:
    """Return a process id that no process has, a new one each time."""
    return next(_numbers)


class Sockets:
    """Pairs of connected sockets, all closed by `close`."""

    def __init__(self) -> None:
        self._made: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two connected sockets; a message that never comes is an error instead of a wait for ever."""
        made = socket.socketpair()
        for one in made:
            one.settimeout(_NEVER_SECONDS)
        self._made.extend(made)
        return made

    def close(self) -> None:
        """Close those that the test, or the code under test, has left open."""
        for one in self._made:
            one.close()


class PreloaderPeer:
    """Speaks for a preloader; `preloader` is its owner's handle, as the code under test uses it."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        ours, self._channel = sockets.pair()
        self.preloader = Preloader(no_process(), ours)
        self.was_stopped = False
        self.forks = 0

    def say(self, **message: Any) -> None:
        """Send a message, as `ready=True`, `failed="why"` or `exited=pid, status=0`."""
        send(self._channel, message)

    def will_fork(self, *, is_spawned: bool = False) -> socket.socket:
        """Answer the next request for a child, and return the child's end of its socket."""
        theirs, child = self._sockets.pair()
        with theirs:
            answer = {"forked": no_process(), "spawned": is_spawned}
            send(self._channel, answer, descriptors=[theirs.fileno()])
        return child

    def die(self) -> None:
        """End, as a killed preloader does."""
        self._channel.close()

    def listen(self) -> Self:
        """Read all that its owner has sent: counts `forks`, and notes whether it `was_stopped`."""
        while not self.was_stopped and is_readable(self._channel, 0):
            message, _ = receive(self._channel)
            self.was_stopped = message is None
            self.forks += message is not None and "fork" in message
        return self
