"""The warm horse: runs job after job in one process that may be killed at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from rq.executions import Execution
from rq.timeouts import HorseMonitorTimeoutException

from emberq.worker.frames import Frame, receive, send
from emberq.worker.preloader import Child, PreloaderClient
from emberq.worker.processes import private_memory_bytes
from emberq.worker.redis_pools import connected_sockets
from emberq.worker.scope import count_pooled, job_scope

if TYPE_CHECKING:
    from rq.job import Job
    from rq.queue import Queue
    from rq.worker import Worker

__all__ = ["Horse", "after_fork", "run_horse"]

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
        jobs: How many jobs it has finished.
        baseline_bytes: Its private memory after its first job, 0 before.
        private_bytes: Its private memory after its last job.
    """

    child: Child
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
            },
        )

    def read_answer(self) -> Frame | None:
        """Return the horse's answer, nothing if it died over the job.

        The answer is read whole even if RQ's monitoring alarm rings in the middle of it.
        """
        with _alarm_held_back():
            answer, _ = receive(self.child.channel)
        if answer is not None:
            self.jobs += 1
            self.private_bytes = answer["private_bytes"]
            self.baseline_bytes = self.baseline_bytes or self.private_bytes
        return answer

    def retire(self) -> None:
        """Let the horse end: it stops when its socket closes."""
        self.child.channel.close()

    @classmethod
    def fork(cls, preloader: PreloaderClient, spec: Frame) -> Horse:
        """Fork a new horse; takes milliseconds.

        Raises:
            PreloaderLost: If the preloader is gone.
        """
        with _alarm_held_back():
            return cls(preloader.fork("horse", spec))


@contextlib.contextmanager
def _alarm_held_back() -> Iterator[None]:
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
    handlers = _signal_handlers()
    while True:
        frame, _ = receive(channel)
        if frame is None:
            return
        leaked = _run_job(worker, frame)
        _restore_signal_handlers(handlers)
        send(
            channel,
            {"done": frame["job"], "leaked": leaked, "private_bytes": private_memory_bytes()},
        )


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
    with job_scope(rq_job=job.id, worker=worker.name) as scope:
        worker.perform_job(job, queue, execution)
    worker.executions.clear()
    return scope.leaked


def _signal_handlers() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)}


def _restore_signal_handlers(handlers: dict[int, object]) -> None:
    """Put back what a job may have changed, so that it does not poison the next one."""
    signal.alarm(0)
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)  # type: ignore[arg-type]
