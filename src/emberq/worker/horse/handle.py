"""The worker's handle of its horse: assigns it jobs, reads its messages, knows its memory.

The messages of the socket between worker and horse:

==========  ==========  ===========================================================================
message     sent by     says
==========  ==========  ===========================================================================
`init`      worker      the first one; brings the file into which the horse writes its stacks
`job`       worker      an assignment: job, queue and execution; the job object is its payload
`loaded`    horse       a spawned horse has its resources; a forked one has them from the start
`failed`    horse       a spawned horse could not load its resources, and why
`progress`  horse       the job made progress, and its stage
`done`      horse       the job is over, its outcome written to Redis
`idle`      horse       the horse has cleaned up after the job: its memory, and what stayed open
==========  ==========  ===========================================================================
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emberq.system.messages import Message, receive, send
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.job_transfer import pack_assignment, pack_job
from emberq.worker.horse.process import WARM_UP_JOBS
from emberq.worker.horse.signals import signals_blocked
from emberq.worker.horse.watchdog import StackFile
from emberq.worker.preloader.preloader import Child, PreloaderClient, PreloadFailed

if TYPE_CHECKING:
    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue


#: Seconds a horse may take to clean up after a job before it counts as stuck.
_CLEAN_UP_SECONDS = 10.0

log = get_logger(__name__)


@dataclass(slots=True)
class Horse:
    """The worker's side of its horse.

    Attributes:
        child: The process.
        stacks: The file into which it writes its stacks when it is asked to.
        jobs: How many jobs it has finished.
        baseline_bytes: Its private memory once it has warmed up, after its first jobs; 0 before.
        private_bytes: Its private memory after its last job.
        leaked: The leaks of its last job that it could not clean up, counted by kind.
        is_cleaning_up: Whether it is still cleaning up after its last job.
        is_loaded: Whether it has its resources; a spawned one says when it has.
        load_failure: Why it could not load them.
    """

    child: Child
    stacks: StackFile = field(default_factory=StackFile)
    jobs: int = 0
    baseline_bytes: int = 0
    private_bytes: int = 0
    leaked: dict[str, int] = field(default_factory=dict)
    is_cleaning_up: bool = False
    is_loaded: bool = True
    load_failure: str = ""
    _process: int = -1

    def __post_init__(self) -> None:
        """Watch the process itself too: a child of the job may keep the socket open after its death."""
        with contextlib.suppress(AttributeError, OSError):
            # Not every system has them, and the horse may have ended already.
            self._process = os.pidfd_open(self.child.pid)

    def is_alive(self) -> bool:
        """Tell whether the horse still listens.

        An idle horse sends nothing: anything to read from one says that it has ended.
        """
        if self.child.channel.fileno() < 0:
            # It was told to end: the socket is closed.
            return False
        if self._events(0) and not self.is_loaded and not self._read_loaded():
            return False
        return self._wait_until_idle() and not self._events(0)

    def _wait_until_idle(self) -> bool:
        """Wait until it has cleaned up after its last job; tells whether it has, in time."""
        deadline = time.monotonic() + _CLEAN_UP_SECONDS
        while self.is_cleaning_up:
            if not self.wait(max(deadline - time.monotonic(), 0)) or self.read() is None:
                return False
        return True

    def _read_loaded(self) -> bool:
        """Wait for the `loaded` message of a spawned horse; tells whether it has loaded."""
        return self.is_loaded or (self.wait(None) and self.read() is not None and self.is_loaded)

    def wait_until_loaded(self) -> None:
        """Wait until a spawned horse has loaded its resources; a forked one always has.

        Raises:
            PreloadFailed: If one of them could not be loaded; the message says which and why.
        """
        if not self._read_loaded():
            raise PreloadFailed(f"The resources could not be loaded: {self.load_failure}")

    def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until the horse has sent a message or has ended; tells whether it has."""
        return bool(self._events(timeout_seconds))

    def _events(self, timeout_seconds: float | None) -> set[int]:
        # A new object each time: a signal handler may wait too, on top of a wait that it has interrupted.
        poll = select.poll()
        poll.register(self.child.channel, select.POLLIN)
        if self._process >= 0:
            poll.register(self._process, select.POLLIN)
        timeout = None if timeout_seconds is None else timeout_seconds * 1000
        return {descriptor for descriptor, _ in poll.poll(timeout)}

    def assign(self, job: Job, queue: Queue, execution: Execution | None) -> None:
        """Give the horse its next job.

        Raises:
            OSError: If it is gone.
        """
        send(self.child.channel, pack_assignment(job, queue, execution), payload=pack_job(job))

    def read(self) -> Message | None:
        """Return the horse's next message, nothing if it has died.

        It is read whole even if RQ's monitoring alarm comes in the middle of it.
        """
        with signals_blocked():
            if self.child.channel.fileno() not in self._events(0):
                return None
            message, _ = receive(self.child.channel)
        if not self.is_loaded:
            return self._note_loaded(message)
        if message is not None and "done" in message:
            self.jobs += 1
            self.is_cleaning_up = True
        elif message is not None and "idle" in message:
            self.is_cleaning_up = False
            self.leaked, self.private_bytes = message["leaked"], message["private_bytes"]
            if self.jobs <= WARM_UP_JOBS:
                self.baseline_bytes = self.private_bytes
        return message

    def _note_loaded(self, message: Message | None) -> Message | None:
        self.is_loaded = message is not None and "loaded" in message
        if self.is_loaded:
            return message
        self.load_failure = message["failed"] if message else "the process died"
        log.error("horse_load_failed", horse_pid=self.child.pid, reason=self.load_failure)
        return None

    def grown_bytes(self) -> int:
        """Return by how much its private memory has grown since it warmed up."""
        return self.private_bytes - self.baseline_bytes

    def close(self) -> None:
        """Close the socket: the horse cleans up and ends."""
        with contextlib.suppress(OSError):
            # Closes it in every process that inherited it, e.g. RQ's scheduler, which the worker forks.
            self.child.channel.shutdown(socket.SHUT_RDWR)
        self.child.channel.close()
        self.stacks.close()
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    @classmethod
    def fork(cls, preloader: PreloaderClient, spec: Message) -> Horse:
        """Fork a new horse; takes milliseconds.

        Raises:
            PreloaderLost: If the preloader is gone.
        """
        with signals_blocked():
            child = preloader.fork("horse", spec)
            horse = cls(child, is_loaded=not child.is_spawned)
            with contextlib.suppress(OSError):
                # If it has ended already, that is noticed where a job is assigned to it.
                send(child.channel, {"init": True}, descriptors=[horse.stacks.fileno()])
            return horse
