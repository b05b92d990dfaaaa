"""The warm horse: runs job after job in one process that may be killed at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from rq.executions import Execution
from rq.timeouts import HorseMonitorTimeoutException

from emberq.telemetry import metrics
from emberq.worker.frames import Frame, receive, send
from emberq.worker.limits import limited
from emberq.worker.policy import HorsePolicy
from emberq.worker.preloader import Child, PreloaderClient
from emberq.worker.processes import private_memory_bytes
from emberq.worker.progress import feed_progress
from emberq.worker.redis_pools import connected_sockets, watch_redis_pool
from emberq.worker.scope import count_pooled, job_scope
from emberq.worker.watchdog import StackFile, write_stacks_to

if TYPE_CHECKING:
    from rq.job import Job
    from rq.queue import Queue
    from rq.worker import Worker

__all__ = ["Horse", "after_fork", "alarm_held_back", "run_horse"]

#: Jobs after which a horse has its caches and arenas; growth counts from there.
_WARM_UP_JOBS = 10
#: Seconds between two progress reports to the worker.
_PROGRESS_SECONDS = 0.1

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
    """

    child: Child
    stacks: StackFile = field(default_factory=StackFile)
    jobs: int = 0
    baseline_bytes: int = 0
    private_bytes: int = 0

    def is_alive(self) -> bool:
        """Tell whether the horse still listens: an idle one says nothing, so a readable socket has ended."""
        channel = self.child.channel
        channel.setblocking(False)
        try:
            channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            channel.setblocking(True)
        return False

    def hand_over(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Give the horse its next job.

        Raises:
            OSError: If it is gone.
        """
        send(
            self.child.channel,
            {
                "job": job.id,
                "queue": queue.name,
                "execution": execution.id,
                "created_at": execution.created_at.timestamp(),
                "stacks": str(self.stacks.path),
            },
        )

    def read(self) -> Frame | None:
        """Return what the horse says, progress or its answer; nothing if it died over the job.

        It is read whole even if RQ's monitoring alarm rings in the middle of it.
        """
        with alarm_held_back():
            frame, _ = receive(self.child.channel)
        if frame is not None and "done" in frame:
            self.jobs += 1
            self.private_bytes = frame["private_bytes"]
            if self.jobs <= _WARM_UP_JOBS:
                self.baseline_bytes = self.private_bytes
        return frame

    def grown_bytes(self) -> int:
        """Return by how much its private memory has grown since it warmed up."""
        return self.private_bytes - self.baseline_bytes

    def retire(self) -> None:
        """Let the horse end: it stops when its socket closes."""
        # Not only closed: RQ's scheduler, a fork of the worker, may hold a copy of this end.
        with contextlib.suppress(OSError):
            self.child.channel.shutdown(socket.SHUT_RDWR)
        self.child.channel.close()
        self.stacks.close()

    @classmethod
    def fork(cls, preloader: PreloaderClient, spec: Frame) -> Horse:
        """Fork a new horse; takes milliseconds.

        Raises:
            PreloaderLost: If the preloader is gone.
        """
        with alarm_held_back():
            return cls(preloader.fork("horse", spec))


@contextlib.contextmanager
def alarm_held_back() -> Iterator[None]:
    """Deliver RQ's SIGALRM only after the block, so that no message is cut in two."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        yield
    finally:
        with contextlib.suppress(HorseMonitorTimeoutException):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_horse(worker: Worker, channel: socket.socket) -> None:
    """Serve jobs from the socket until it closes; the body of every horse process.

    Args:
        worker: A worker object of this process's own, or one inherited by the fork.
        channel: The socket to the worker process.
    """
    random.seed()
    worker.setup_work_horse_signals()  # type: ignore[no-untyped-call]
    worker._is_horse = True  # noqa: SLF001 - what RQ's own main_work_horse does
    worker.connection.connection_pool.reset()
    count_pooled(partial(connected_sockets, worker.connection.connection_pool))
    for function in _after_fork:
        function()
    feed_progress(_Reporter(channel))
    watch_redis_pool("worker", worker.connection.connection_pool)
    metrics.after_fork()
    handlers = _signal_handlers()
    stacks: str | None = None
    while True:
        frame, _ = receive(channel)
        if frame is None:
            return
        if stacks != frame["stacks"]:
            stacks = frame["stacks"]
            write_stacks_to(stacks)
        leaked = _run_job(worker, frame)
        _restore_signal_handlers(handlers)
        private_bytes = private_memory_bytes()
        metrics.horse_measured(private_bytes=private_bytes)
        metrics.sample()
        send(channel, {"done": frame["job"], "leaked": leaked, "private_bytes": private_bytes})


def _run_job(worker: Worker, frame: Frame) -> dict[str, int]:
    os.environ["RQ_WORKER_ID"] = worker.name
    os.environ["RQ_JOB_ID"] = frame["job"]
    queue = next((queue for queue in worker.queues if queue.name == frame["queue"]), None)
    if queue is None:
        queue = worker.queue_class(
            frame["queue"],
            connection=worker.connection,
            job_class=worker.job_class,
            serializer=worker.serializer,
            death_penalty_class=worker.death_penalty_class,
        )
    job = worker.job_class.fetch(frame["job"], connection=worker.connection, serializer=worker.serializer)
    execution = Execution(
        id=frame["execution"], job_id=job.id, connection=worker.connection, worker_name=worker.name
    )
    execution.created_at = datetime.fromtimestamp(frame["created_at"], tz=UTC)
    execution._job = job  # noqa: SLF001 - what RQ's SpawnWorker does in its child
    worker.executions = {execution.id: execution}
    policy = getattr(worker, "policy", HorsePolicy()).for_job(job.meta)
    started = time.monotonic()
    with job_scope(rq_job=job.id, worker=worker.name) as scope, limited(policy):
        worker.perform_job(job, queue, execution)
    metrics.rq_job_finished(
        status=job.get_status(refresh=False).value,
        error_code="internal_error",
        seconds=time.monotonic() - started,
    )
    worker.executions.clear()
    return scope.leaked


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
        send(self._channel, {"progress": done, "total": total, "stage": stage})


def _signal_handlers() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)}


def _restore_signal_handlers(handlers: dict[int, object]) -> None:
    """Put back what a job may have changed, so that it does not poison the next one."""
    signal.alarm(0)
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)  # type: ignore[arg-type]
