"""The body of the horse process: runs one job after the other, and may be killed at any moment."""

from __future__ import annotations

import contextlib
import contextvars
import os
import random
import socket
import time

import structlog

from emberq.config.current import pinned_config
from emberq.errors import InternalError
from emberq.redis_pools import watch_redis_pool
from emberq.system.environment_variable import RewrittenVariable
from emberq.system.forks import run_after_fork
from emberq.system.kept_open import keep_open
from emberq.system.memory import private_memory_bytes
from emberq.system.messages import Message, receive, send
from emberq.system.processes import end_children_with_this_process
from emberq.telemetry import metrics
from emberq.worker.horse.job_transfer import unpack_execution, unpack_job, unpack_queue
from emberq.worker.horse.watchdog import write_stacks_to
from emberq.worker.job.limits import job_limits
from emberq.worker.job.progress import report_all_progress_to
from emberq.worker.job.scope import job_scope
from emberq.worker.resources.connections import close_connections
from emberq.worker.resources.resources import close_resources
from emberq.worker.rq.base import HorseWorker

#: Jobs after which a horse has its caches and arenas; growth counts from there.
WARM_UP_JOBS = 10
#: Seconds between two progress reports to the worker.
_PROGRESS_SECONDS = 0.1
#: Seconds between two looks at a horse's private memory, which take the kernel a millisecond or more.
_MEMORY_SECONDS = 1.0

_JOB_ID = RewrittenVariable("RQ_JOB_ID")


def run_horse(worker: HorseWorker, channel: socket.socket) -> None:
    """Serve jobs from the socket until it closes; the body of every horse process.

    RQ handles the exceptions of jobs. Any other exception here ends the horse, which the worker takes for a
    death in the middle of the job.

    Args:
        worker: A worker object of this process's own, or one inherited by the fork.
        channel: The socket to the worker process.
    """
    random.seed()
    end_children_with_this_process()
    worker.become_horse()
    worker.procline("idle")  # type: ignore[no-untyped-call]
    worker.connection.connection_pool.reset()
    keep_open(lambda: worker.connection.connection_pool)
    run_after_fork()
    report_all_progress_to(ProgressReporter(channel))
    watch_redis_pool("worker", worker.connection.connection_pool)
    metrics.open_own_files()
    init, descriptors = receive(channel)
    if init is None:
        return
    write_stacks_to(descriptors[0])
    link = _Link(channel)
    try:
        # Each job in a context of its own: the context variables it sets end with it.
        while contextvars.copy_context().run(_serve_job, worker, link):
            pass
    finally:
        close_connections()
        close_resources()


def _serve_job(worker: HorseWorker, link: _Link) -> bool:
    """Wait for a job and run it; tells whether there was one.

    The job's scope is open before the job comes, and closes after the answer: while the horse cleans up,
    the worker fetches the next job.
    """
    with job_scope() as scope, pinned_config():
        assignment, _ = receive(link.channel)
        if assignment is None:
            return False
        _run_job(worker, assignment)
        link.answer({"done": assignment["job"]})
    worker.procline("idle")  # type: ignore[no-untyped-call]
    private_bytes = link.memory.read()
    metrics.set_horse_memory(private_bytes=private_bytes)
    metrics.sample()
    with contextlib.suppress(ConnectionError):
        # The worker may have left with its last answer.
        send(link.channel, {"idle": True, "leaked": scope.uncleaned, "private_bytes": private_bytes})
    return True


def _run_job(worker: HorseWorker, assignment: Message) -> None:
    os.environ["RQ_WORKER_ID"] = worker.name
    _JOB_ID.set(assignment["job"])
    structlog.contextvars.bind_contextvars(rq_job=assignment["job"], worker=worker.name)
    job = unpack_job(worker, assignment)
    execution = unpack_execution(worker, assignment, job)
    worker.executions = {execution.id: execution} if execution else {}
    started = time.monotonic()
    with job_limits(worker.policy.for_job(job.meta)):
        # RQ's own horse may pass no execution either.
        worker.perform_job(job, unpack_queue(worker, assignment), execution)  # type: ignore[arg-type]
    metrics.count_rq_job(
        status=job.get_status(refresh=False).value,
        error_code="internal_error",
        seconds=time.monotonic() - started,
    )
    worker.executions.clear()


class _Link:
    """The horse's end of the socket to its worker."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.memory = _MemoryGauge()
        self._socket_id = _socket_id(channel)

    def answer(self, message: Message) -> None:
        """Send a message, if this is still the same socket.

        Raises:
            InternalError: If the job closed it; its descriptor may be another connection's by now.
        """
        if _socket_id(self.channel) != self._socket_id:
            raise InternalError("The job closed the socket to its worker.")
        send(self.channel, message)


def _socket_id(channel: socket.socket) -> int:
    """Return the socket's inode, which a later socket with the same descriptor has not; 0 if it is closed."""
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
        if self._jobs <= WARM_UP_JOBS or now - self._read_at >= _MEMORY_SECONDS:
            self._read_at, self._bytes = now, private_memory_bytes()
        return self._bytes


class ProgressReporter:
    """Sends progress to the worker, ten times a second at most: the watchdog needs no more."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sent_at = 0.0
        self._stage: str | None = None

    def __call__(self, done: int, total: int, stage: str | None) -> None:
        """Send a report, if it is due; ends the process if the worker is gone."""
        now = time.monotonic()
        if now - self._sent_at < _PROGRESS_SECONDS and stage == self._stage:
            return
        self._sent_at, self._stage = now, stage
        try:
            send(self._channel, {"progress": done, "total": total, "stage": stage})
        except OSError:
            # The worker is gone, and this process ends with it: at once, before the job takes the broken
            # channel for a failure of its own and records it.
            os._exit(os.EX_UNAVAILABLE)
