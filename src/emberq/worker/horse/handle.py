"""The warm horse: runs job after job in one process that may be killed at any moment."""

from __future__ import annotations

import contextlib
import contextvars
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from rq.timeouts import HorseMonitorTimeoutException

from emberq.config.snapshot import pinned_config
from emberq.errors import InternalError
from emberq.redis_pools import watch_redis_pool
from emberq.system.kept_open import hold
from emberq.system.messages import Frame, receive, send
from emberq.system.processes import RewrittenVariable, private_memory_bytes
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.job_transfer import (
    pack_assignment,
    pack_job,
    unpack_execution,
    unpack_job,
    unpack_queue,
)
from emberq.worker.horse.watchdog import StackFile, write_stacks_to
from emberq.worker.job.limits import limited
from emberq.worker.job.progress import feed_progress
from emberq.worker.job.scope import job_scope
from emberq.worker.preloader.preloader import Child, PreloaderClient, PreloadFailed
from emberq.worker.resources.connections import close_connections
from emberq.worker.resources.resources import close_resources

if TYPE_CHECKING:
    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue

    from emberq.worker.warm_worker import WarmWorker

__all__ = ["Horse", "after_fork", "run_horse", "signals_held_back"]

#: Jobs after which a horse has its caches and arenas; growth counts from there.
_WARM_UP_JOBS = 10
#: Seconds between two progress reports to the worker.
_PROGRESS_SECONDS = 0.1
#: Seconds a horse may take to clean up after a job before it counts as stuck.
_REST_SECONDS = 10.0
#: Seconds between two looks at a horse's private memory, which take the kernel a millisecond or more.
_MEMORY_SECONDS = 1.0
#: Signals whose handlers raise: RQ's monitoring alarm and requests to stop.
_RAISING = {signal.SIGALRM, signal.SIGTERM, signal.SIGINT}

log = get_logger(__name__)

_JOB_ID = RewrittenVariable("RQ_JOB_ID")

_after_fork: list[Callable[[], None]] = []


def after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Register what every new horse does first, e.g. forget connections it inherited."""
    _after_fork.append(function)
    return function


@dataclass(slots=True)
class Horse:
    """The worker's side of its horse.

    Attributes:
        child: The process.
        stacks: Where it writes its stacks when it is asked to.
        jobs: How many jobs it has finished.
        baseline_bytes: Its private memory once it has warmed up, after its first jobs; 0 before.
        private_bytes: Its private memory after its last job.
        leaked: What of its last job it could not clean up, counted by kind.
        is_resting: Whether it is still cleaning up after its last job.
        is_loaded: Whether it has its resources; a spawned one says when it has.
        load_failure: Why it could not load them.
    """

    child: Child
    stacks: StackFile = field(default_factory=StackFile)
    jobs: int = 0
    baseline_bytes: int = 0
    private_bytes: int = 0
    leaked: dict[str, int] = field(default_factory=dict)
    is_resting: bool = False
    is_loaded: bool = True
    load_failure: str = ""
    _process: int = -1

    def __post_init__(self) -> None:
        """Watch the process itself too: what a job forked may hold the socket open after its death."""
        with contextlib.suppress(AttributeError, OSError):
            # Where the system has them, and unless it has ended already.
            self._process = os.pidfd_open(self.child.pid)

    def is_alive(self) -> bool:
        """Tell whether the horse still listens: an idle one says nothing, so one that does has ended."""
        if self.child.channel.fileno() < 0:
            # It was told to end.
            return False
        if self._events(0) and not self.is_loaded and not self.take_loaded():
            return False
        return self.has_rested() and not self._events(0)

    def has_rested(self) -> bool:
        """Wait until it has cleaned up after its last job; tells whether it has, in time."""
        deadline = time.monotonic() + _REST_SECONDS
        while self.is_resting:
            if not self.wait(max(deadline - time.monotonic(), 0)) or self.read() is None:
                return False
        return True

    def take_loaded(self) -> bool:
        """Wait for what a spawned horse says when it has loaded; tells whether it has."""
        return self.is_loaded or (self.wait(None) and self.read() is not None and self.is_loaded)

    def wait_until_loaded(self) -> None:
        """Wait until a spawned horse has loaded its resources; a forked one always has.

        Raises:
            PreloadFailed: If one of them could not be loaded; the message says which and why.
        """
        if not self.take_loaded():
            raise PreloadFailed(f"The resources could not be loaded: {self.load_failure}")

    def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until the horse has said something or has ended; tells whether it has."""
        return bool(self._events(timeout_seconds))

    def _events(self, timeout_seconds: float | None) -> set[int]:
        # A new object each time: a signal handler may come to wait while the same one waits below it.
        poll = select.poll()
        poll.register(self.child.channel, select.POLLIN)
        if self._process >= 0:
            poll.register(self._process, select.POLLIN)
        timeout = None if timeout_seconds is None else timeout_seconds * 1000
        return {descriptor for descriptor, _ in poll.poll(timeout)}

    def hand_over(self, job: Job, queue: Queue, execution: Execution | None) -> None:
        """Give the horse its next job.

        Raises:
            OSError: If it is gone.
        """
        send(self.child.channel, pack_assignment(job, queue, execution), payload=pack_job(job))

    def read(self) -> Frame | None:
        """Return what the horse says: progress, its answer, that it has rested; nothing if it has died.

        It is read whole even if RQ's monitoring alarm rings in the middle of it.
        """
        with signals_held_back():
            if self.child.channel.fileno() not in self._events(0):
                return None
            frame, _ = receive(self.child.channel)
        if not self.is_loaded:
            return self._note_loaded(frame)
        if frame is not None and "done" in frame:
            self.jobs += 1
            self.is_resting = True
        elif frame is not None and "rested" in frame:
            self.is_resting = False
            self.leaked, self.private_bytes = frame["leaked"], frame["private_bytes"]
            if self.jobs <= _WARM_UP_JOBS:
                self.baseline_bytes = self.private_bytes
        return frame

    def _note_loaded(self, frame: Frame | None) -> Frame | None:
        self.is_loaded = frame is not None and "loaded" in frame
        if self.is_loaded:
            return frame
        self.load_failure = frame["failed"] if frame else "the process died"
        log.error("horse_load_failed", horse_pid=self.child.pid, reason=self.load_failure)
        return None

    def grown_bytes(self) -> int:
        """Return by how much its private memory has grown since it warmed up."""
        return self.private_bytes - self.baseline_bytes

    def retire(self) -> None:
        """Let the horse end: it stops when its socket closes."""
        with contextlib.suppress(OSError):
            # For every process that holds an end, e.g. RQ's scheduler, which the worker forks.
            self.child.channel.shutdown(socket.SHUT_RDWR)
        self.child.channel.close()
        self.stacks.close()
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    @classmethod
    def fork(cls, preloader: PreloaderClient, spec: Frame) -> Horse:
        """Fork a new horse; takes milliseconds.

        Raises:
            PreloaderLost: If the preloader is gone.
        """
        with signals_held_back():
            child = preloader.fork("horse", spec)
            horse = cls(child, is_loaded=not child.is_spawned)
            with contextlib.suppress(OSError):
                # If it has ended already, that is noticed where it is given a job.
                send(child.channel, {"stacks": str(horse.stacks.path)})
            return horse


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Deliver signals whose handlers raise only after the block, so that no message is cut in two."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _RAISING)
    try:
        yield
    finally:
        with contextlib.suppress(HorseMonitorTimeoutException):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_horse(worker: WarmWorker, channel: socket.socket) -> None:
    """Serve jobs from the socket until it closes; the body of every horse process.

    What a job raises is RQ's to handle. Anything else that is raised here ends the horse, which the worker
    takes for a death in the middle of the job.

    Args:
        worker: A worker object of this process's own, or one inherited by the fork.
        channel: The socket to the worker process.
    """
    random.seed()
    worker.become_horse()
    worker.connection.connection_pool.reset()
    hold(lambda: worker.connection.connection_pool)
    for function in _after_fork:
        function()
    feed_progress(_Reporter(channel))
    watch_redis_pool("worker", worker.connection.connection_pool)
    metrics.after_fork()
    hello, _ = receive(channel)
    if hello is None:
        return
    write_stacks_to(hello["stacks"])
    link = _Link(channel)
    try:
        # Each job in a context of its own: what it sets in context variables ends with it.
        while contextvars.copy_context().run(_serve_job, worker, link):
            pass
    finally:
        close_connections()
        close_resources()


def _serve_job(worker: WarmWorker, link: _Link) -> bool:
    """Wait for a job and run it; tells whether there was one.

    The job's scope is open before the job comes, and closes after the answer: while the horse cleans up,
    the worker fetches the next job.
    """
    with job_scope() as scope, pinned_config():
        frame, _ = receive(link.channel)
        if frame is None:
            return False
        _run_job(worker, frame)
        link.answer({"done": frame["job"]})
    private_bytes = link.memory.read()
    metrics.horse_measured(private_bytes=private_bytes)
    metrics.sample()
    with contextlib.suppress(ConnectionError):
        # The worker may have left with its last answer.
        send(link.channel, {"rested": True, "leaked": scope.uncleaned, "private_bytes": private_bytes})
    return True


def _run_job(worker: WarmWorker, frame: Frame) -> None:
    os.environ["RQ_WORKER_ID"] = worker.name
    _JOB_ID.set(frame["job"])
    structlog.contextvars.bind_contextvars(rq_job=frame["job"], worker=worker.name)
    job = unpack_job(worker, frame)
    execution = unpack_execution(worker, frame, job)
    worker.executions = {execution.id: execution} if execution else {}
    started = time.monotonic()
    with limited(worker.policy.for_job(job.meta)):
        # RQ's own horse passes what it has, too.
        worker.perform_job(job, unpack_queue(worker, frame), execution)  # type: ignore[arg-type]
    metrics.rq_job_finished(
        status=job.get_status(refresh=False).value,
        error_code="internal_error",
        seconds=time.monotonic() - started,
    )
    worker.executions.clear()


class _Link:
    """The horse's end of the socket, and what it says over it."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.memory = _MemoryGauge()
        self._socket_id = _socket_id(channel)

    def answer(self, frame: Frame) -> None:
        """Answer, if this is still the same socket.

        Raises:
            InternalError: If the job closed it; the number may be another connection's by now.
        """
        if _socket_id(self.channel) != self._socket_id:
            raise InternalError("The job closed the socket to its worker.")
        send(self.channel, frame)


def _socket_id(channel: socket.socket) -> int:
    """Return what tells this socket from another one that has come to have its number; 0 if it is closed."""
    with contextlib.suppress(OSError):
        return os.fstat(channel.fileno()).st_ino
    return 0


class _MemoryGauge:
    """This process's private memory, read once a second: reading takes longer than a short job."""

    def __init__(self) -> None:
        self._read_at = 0.0
        self._jobs = 0
        self._bytes = 0

    def read(self) -> int:
        """Return the last value, a new one if that is older than a second or the horse is warming up."""
        now = time.monotonic()
        self._jobs += 1
        if self._jobs <= _WARM_UP_JOBS or now - self._read_at >= _MEMORY_SECONDS:
            self._read_at, self._bytes = now, private_memory_bytes()
        return self._bytes


class _Reporter:
    """Tells the worker of progress, ten times a second at most: it only has to know that there is some."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._told_at = 0.0
        self._stage: str | None = None

    def __call__(self, done: int, total: int, stage: str | None) -> None:
        now = time.monotonic()
        if now - self._told_at < _PROGRESS_SECONDS and stage == self._stage:
            return
        self._told_at, self._stage = now, stage
        try:
            send(self._channel, {"progress": done, "total": total, "stage": stage})
        except OSError:
            # The worker is gone, and this process is to end with it: at once, before the job takes the
            # broken channel for a failure of its own and writes it down.
            os._exit(os.EX_UNAVAILABLE)
