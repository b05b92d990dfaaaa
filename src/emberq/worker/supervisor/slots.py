"""Slots: the places a supervisor keeps filled, and the processes that fill them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from emberq.errors import InternalError
from emberq.retry.backoff import Backoff
from emberq.system.messages import is_readable, receive
from emberq.worker.preloader.generations import Generation

#: Seconds a process must live for its death not to count as part of a crash loop.
_HEALTHY_SECONDS = 10.0
#: Delays before a process that died at once is started again, from its second such death on.
_BACKOFF = Backoff(first_seconds=0.4, longest_seconds=30.0)


#: The place of a process in its slot.
Place = Literal["current", "successor", "draining"]


class CrashLoop(InternalError):
    """A process died too often in a row."""

    default_hint = "Look into the log for what it said before it died."


@dataclass(slots=True, eq=False)
class SlotProcess:
    """One process that fills, filled or will fill a slot.

    Attributes:
        pid: The process.
        generation: The generation whose resources it works with.
        channel: Receives `ready`, with the worker's name, and closes when the process ends.
        is_preloader_child: Whether the preloader is its parent, and so the process that reaps it.
        started_at: When it was started, on the supervisor's clock.
        worker: The RQ worker's name, known once it is ready.
        is_ready: Whether it has said that it serves.
        stopped_since: Since when it has been stopped by a signal, nothing if it runs.
    """

    pid: int
    generation: Generation
    channel: socket.socket
    is_preloader_child: bool
    started_at: float
    worker: str = ""
    is_ready: bool = False
    stopped_since: float | None = None

    def read_ready(self) -> None:
        """Read the process's `ready` message if it has come."""
        if self.is_ready or not is_readable(self.channel, 0):
            return
        message, _ = receive(self.channel)
        if message is not None and "ready" in message:
            self.is_ready = True
            self.worker = str(message["ready"])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(slots=True)
class Slot:
    """A worker slot, or the place of a process beside the slots.

    Invariant: at most one process serves here as `current`; a `successor` takes over only once it is
    ready, and those in `draining` finish their jobs and take no new ones.

    Attributes:
        name: Names it in logs.
        start: Starts a process for it, on a generation.
        current: The process that serves.
        successor: A process of a newer generation that gets ready to serve.
        draining: The processes before it that have not ended.
        crashes: Deaths in a row that were not asked for.
        not_before: When the next process may be started.
    """

    name: str
    start: Callable[[Generation], SlotProcess]
    current: SlotProcess | None = None
    successor: SlotProcess | None = None
    draining: list[SlotProcess] = field(default_factory=list)
    crashes: int = 0
    not_before: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def processes(self) -> list[SlotProcess]:
        """Return every process of this slot that has not ended."""
        return [one for one in (self.current, self.successor, *self.draining) if one is not None]

    def may_start(self) -> bool:
        """Tell whether the delay after the last crash is over."""
        return self.clock() >= self.not_before

    def promote_successor(self) -> None:
        """Let the successor serve; the process before it drains."""
        if self.current is not None:
            self.current.signal(signal.SIGTERM)
            self.draining.append(self.current)
        self.current, self.successor = self.successor, None

    def remove(self, ended: SlotProcess) -> Place:
        """Take an ended process off the slot and return the place it had there."""
        # It may have become ready, and so have a worker's name, since the last time.
        ended.read_ready()
        ended.channel.close()
        if ended is self.current:
            self.current = None
            return "current"
        if ended is self.successor:
            self.successor = None
            return "successor"
        self.draining.remove(ended)
        return "draining"

    def note_crash(self, ended: SlotProcess, *, most: int) -> float:
        """Count a death that was not asked for and return the delay before the next start, in seconds.

        Raises:
            CrashLoop: If it was one too many in a row.
        """
        now = self.clock()
        self.crashes = 1 if now - ended.started_at > _HEALTHY_SECONDS else self.crashes + 1
        if self.crashes >= most:
            raise CrashLoop(f"{self.name} died {self.crashes} times in a row.")
        delay = _BACKOFF.pause_seconds(self.crashes - 1)
        self.not_before = now + delay
        return delay
