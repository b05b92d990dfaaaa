"""Posts: the places a supervisor keeps filled, and the processes that fill them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from emberq.errors import InternalError
from emberq.retry.backoff import Backoff
from emberq.system.messages import is_readable, receive
from emberq.worker.preloader.generations import Generation

__all__ = ["CrashLoop", "Slot", "SlotProcess"]

#: Seconds a process must live for its death not to count as part of a crash loop.
_HEALTHY_SECONDS = 10.0
#: Pauses before a process is started again that has died at once, from its second such death on.
_BACKOFF = Backoff(first_seconds=0.4, longest_seconds=30.0)


class CrashLoop(InternalError):
    """A process died too often in a row."""

    default_hint = "Look into the log for what it said before it died."


@dataclass(slots=True)
class SlotProcess:
    """One process that fills, filled or will fill a post.

    Attributes:
        pid: The process.
        generation: Whose resources it works with.
        channel: Says `ready`, with the worker's name, and closes when the process ends.
        of_preloader: Whether the preloader is its parent, and so the one who hears of its end.
        started_at: When it was started, on the monotonic clock.
        worker: The RQ worker's name, known once it is ready.
        is_ready: Whether it has said that it serves.
    """

    pid: int
    generation: Generation
    channel: socket.socket
    of_preloader: bool
    started_at: float = field(default_factory=time.monotonic)
    worker: str = ""
    is_ready: bool = False

    def look(self) -> None:
        """Take note of what the process said since the last look."""
        if self.is_ready or not is_readable(self.channel, 0):
            return
        frame, _ = receive(self.channel)
        if frame is not None and "ready" in frame:
            self.is_ready = True
            self.worker = str(frame["ready"])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(slots=True)
class Slot:
    """One place: a worker slot, or a process beside the slots.

    Invariant: at most one process serves here as `current`; a `successor` takes over only once it is
    ready, and those in `leaving` finish what they run and take nothing new.
    """

    name: str
    start: Callable[[Generation], SlotProcess]
    current: SlotProcess | None = None
    successor: SlotProcess | None = None
    leaving: list[SlotProcess] = field(default_factory=list)
    crashes: int = 0
    not_before: float = 0.0

    def processes(self) -> list[SlotProcess]:
        """Return every process of this post that has not ended."""
        return [one for one in (self.current, self.successor, *self.leaving) if one is not None]

    def hand_over(self) -> None:
        """Let the successor serve; the process before it drains."""
        if self.current is not None:
            self.current.signal(signal.SIGTERM)
            self.leaving.append(self.current)
        self.current, self.successor = self.successor, None

    def forget(self, gone: SlotProcess) -> None:
        """Take an ended process off the post."""
        gone.channel.close()
        if gone is self.current:
            self.current = None
        elif gone is self.successor:
            self.successor = None
        else:
            self.leaving.remove(gone)

    def note_crash(self, lived_seconds: float, *, most: int) -> float:
        """Count a death that nobody asked for and return the pause before the next start, in seconds.

        Raises:
            CrashLoop: If it was one too many in a row.
        """
        self.crashes = 1 if lived_seconds > _HEALTHY_SECONDS else self.crashes + 1
        if self.crashes >= most:
            raise CrashLoop(f"{self.name} died {self.crashes} times in a row.")
        pause = _BACKOFF.pause_seconds(self.crashes - 1)
        self.not_before = time.monotonic() + pause
        return pause
