"""RQ's worker with fewer round trips to Redis, and the same to be seen there."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from rq.job import JobStatus
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now
from rq.worker import WorkerStatus

from emberq.telemetry.logs import get_logger
from emberq.worker.rq.base import HorseWorker
from emberq.worker.rq.heartbeat import HEARTBEAT_REFRESH_SECONDS, beat, heartbeat_key

if TYPE_CHECKING:
    from redis.client import Pipeline
    from rq.job import Job
    from rq.queue import Queue

__all__ = ["PipelinedWorker"]

log = get_logger(__name__)

#: Seconds within which the worker's lease need not be renewed again; RQ does it four times a job, and the
#: lease never lasts less than a minute.
_RENEWAL_SECONDS = 1.0


class PipelinedWorker(HorseWorker):
    """Says to Redis in one breath what RQ says word by word, and nothing twice.

    While the work loop runs, a job costs worker and horse eight round trips instead of twenty. Called
    from outside the loop, every method writes at once, as RQ's does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take everything `rq.Worker` takes."""
        super().__init__(*args, **kwargs)
        #: Whether the work loop runs, which renews the lease in every round.
        self._loops = False
        self._renewed_at = -_RENEWAL_SECONDS
        self._beat_at = -HEARTBEAT_REFRESH_SECONDS
        self._written_state: str | None = None
        #: Whether it only rehearses: nobody is to see a heartbeat of it.
        self.is_warming_up = False

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Begin with nothing written."""
        self._written_state = None
        self._renewed_at = -_RENEWAL_SECONDS
        super().bootstrap(*args, **kwargs)

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Begin a round of the work loop, which nothing else calls; wait while RQ is suspended."""
        self._loops = True
        self.heartbeat()
        if self.connection.exists(WORKERS_SUSPENDED):
            super().check_for_suspension(burst)

    def teardown(self) -> None:
        """Write what is owed, and leave."""
        if self._loops and not self._is_horse:
            self._write_state()
            self._loops = False
        super().teardown()  # type: ignore[no-untyped-call]
        with contextlib.suppress(RedisError):
            self.connection.delete(heartbeat_key(self.name))

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Renew the worker's lease, unless that was done a moment ago, and write what is owed."""
        is_fresh = time.monotonic() - self._renewed_at < _RENEWAL_SECONDS
        is_due = not (self._loops and timeout is None and is_fresh)
        if pipeline is not None:
            self._write(timeout, pipeline, renew=is_due)
        elif is_due:
            with self.connection.pipeline(transaction=False) as own:
                self._write(timeout, own, renew=True)
                own.execute()
        if not (self._is_horse or self.is_warming_up):
            self.beat_if_due()

    def _write(self, timeout: int | None, pipeline: Pipeline, *, renew: bool) -> None:
        if renew:
            super().heartbeat(timeout, pipeline)
            self._renewed_at = time.monotonic()
        self._write_state(pipeline)

    def _write_state(self, pipeline: Pipeline | None = None) -> None:
        if self._loops and self._written_state != self._state:
            super().set_state(self._state, pipeline)
            self._written_state = self._state

    def beat_if_due(self) -> None:
        """Write the heartbeat key that outside monitors read, if that was not done a while ago."""
        if time.monotonic() - self._beat_at < HEARTBEAT_REFRESH_SECONDS / 2:
            return
        self._beat_at = time.monotonic()
        try:
            beat(self.connection, self.name)
        except RedisError as exc:
            # The job goes on; Redis is only the bell.
            log.warning("heartbeat_failed", worker=self.name, error=str(exc))

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Take a job, or wait for one, waking up often enough to keep the heartbeat key alive."""
        if self._loops:
            taken = super().dequeue_job_and_maintain_ttl(None)
            if taken is not None or timeout is None:
                return taken
            self.idle()
        if timeout is None:
            return super().dequeue_job_and_maintain_ttl(None, max_idle_time)
        return super().dequeue_job_and_maintain_ttl(
            min(timeout, int(HEARTBEAT_REFRESH_SECONDS)), max_idle_time
        )

    def idle(self) -> None:
        """Say that the worker is idle; called before it waits for a job, not between two that are there."""
        self._write_state()

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Set the worker's state; that it is idle again is written once there is no further job."""
        if pipeline is None and self._loops:
            if state == self._written_state:
                self._state = state
                return
            if state == WorkerStatus.IDLE and self._written_state == WorkerStatus.BUSY:
                self._state = state
                return
        super().set_state(state, pipeline)
        self._written_state = state

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """Renew the job's heartbeat only where a callback may take its time; else the outcome follows."""
        self.exit_if_forked_by_job()
        if job._status == JobStatus.FAILED or job._success_callback_name:  # noqa: SLF001 - a property loads it
            super().handle_execution_ended(job, queue, heartbeat_ttl)
            return
        job.ended_at = job.last_heartbeat = now()
