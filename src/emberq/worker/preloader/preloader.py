"""The preloader as other processes use it: a process that has the resources loaded and forks on request.

Forking from it is safe (no threads, no connections) and quick (the pages are shared until written).
It runs no jobs. A client, which is a process with an end of a channel to it, asks for a child in one of its
roles and gets a socket to that child; when the client goes away, its children are ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from emberq.errors import InvalidRequest
from emberq.system.forks import close_in_children
from emberq.system.messages import Message, is_readable, receive, send
from emberq.worker.preloader.fork_server import Role, run_preloader

#: Seconds a child's exit notice may take after its socket closed; the kernel needs microseconds.
_EXIT_NOTICE_SECONDS = 5.0


class PreloadFailed(InvalidRequest):
    """The resources could not be loaded."""

    default_hint = "Correct what --preload (EMBERQ_PRELOAD) names; the log has the traceback."


class PreloaderLost(Exception):
    """The preloader process is gone; its clients end, so that a supervisor starts all of them anew."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that the preloader forked.

    Attributes:
        pid: Its process id; also its process group.
        channel: The socket to it; closes when it ends.
        is_spawned: Whether it is a fresh interpreter, which first loads and then says `loaded`.
    """

    pid: int
    channel: socket.socket
    is_spawned: bool = False


class PreloaderClient:
    """A process's access to the preloader: one end of a channel to it."""

    def __init__(self, channel: socket.socket) -> None:
        """Use a channel that the preloader serves."""
        self.channel = close_in_children(channel)
        self._exits: dict[int, int] = {}

    def fork(self, role: str, spec: Message | None = None) -> Child:
        """Ask for a child in a role; takes a few milliseconds.

        Raises:
            PreloaderLost: If the preloader is gone.
        """
        try:
            send(self.channel, {"fork": role, "spec": spec or {}})
        except OSError as exc:
            raise PreloaderLost from exc
        while True:
            message, descriptors = self._next()
            if "forked" in message:
                channel = close_in_children(socket.socket(fileno=descriptors[0]))
                return Child(message["forked"], channel, message["spawned"])

    def connect(self) -> socket.socket:
        """Return a new channel to the same preloader, for another process to use."""
        ours, theirs = socket.socketpair()
        with theirs:
            send(self.channel, {"serve": True}, descriptors=[theirs.fileno()])
        return ours

    def exit_status(self, pid: int, *, timeout_seconds: float = _EXIT_NOTICE_SECONDS) -> int | None:
        """Wait for a child's end and return its wait status, nothing if none came in time."""
        deadline = time.monotonic() + timeout_seconds
        while pid not in self._exits:
            left = deadline - time.monotonic()
            if left <= 0 or not is_readable(self.channel, left):
                return None
            self._next()
        return self._exits.pop(pid)

    def poll_exits(self) -> dict[int, int]:
        """Return the wait statuses, by process id, of ended children that were not returned yet."""
        while is_readable(self.channel, 0):
            self._next()
        exits, self._exits = self._exits, {}
        return exits

    def _next(self) -> tuple[Message, list[int]]:
        message, descriptors = receive(self.channel)
        if message is None:
            raise PreloaderLost
        if "exited" in message:
            self._exits[message["exited"]] = message["status"]
        return message, descriptors


class Preloader(PreloaderClient):
    """The owner's handle of a preloader process; closing it ends the process and all it forked."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        """Own a preloader that `start_preloader` forked."""
        super().__init__(channel)
        self.pid = pid

    def is_ready(self) -> bool:
        """Tell, without waiting, whether the resources are loaded.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
        """
        if not is_readable(self.channel, 0):
            return False
        self.wait_ready()
        return True

    def wait_ready(self) -> None:
        """Wait until the resources are loaded.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
        """
        ready, _ = receive(self.channel)
        if ready is not None and "failed" not in ready:
            return
        self.stop()
        reason = ready["failed"] if ready else "the process died"
        raise PreloadFailed(f"The resources could not be loaded: {reason}")

    def stop(self) -> None:
        """End the preloader and everything it forked, and reap it."""
        with contextlib.suppress(OSError):
            # Closes it in every process that inherited it, such as a child that the owner forked meanwhile.
            self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_preloader(
    roles: Mapping[str, Role], *, modules: Sequence[str] = (), prepare: Callable[[], None] | None = None
) -> Preloader:
    """Fork a preloader, which then loads the resources; its `wait_ready` and `is_ready` tell when it has.

    Call it before the process has threads, from the main thread.

    Args:
        roles: What the preloader can fork, by name.
        modules: Modules whose resources are loaded.
        prepare: Called first in the new process, e.g. to forget connections it inherited.
    """
    ours, theirs = socket.socketpair()
    close_in_children(ours)
    owner = os.getpid()
    pid = os.fork()
    if pid == 0:
        run_preloader(theirs, owner, roles, modules=modules, prepare=prepare)
    theirs.close()
    return Preloader(pid, ours)
