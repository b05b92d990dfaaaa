"""Leaving: a worker that is told to stop takes no job with it.

RQ's worker raises out of the signal handler, wherever it is. If Redis has just given it a job, that job
is in nobody's hands: with one queue it is found a minute later, with several never. Workers that are
replaced while jobs come in would lose one now and then.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from rq.exceptions import StopRequested
from rq.worker import WorkerStatus

from emberq.worker.rq.fewer_round_trips import PipelinedWorker
from emberq.worker.rq.requeue import requeue

if TYPE_CHECKING:
    from redis.client import Pipeline
    from rq.job import Job
    from rq.queue import Queue

__all__ = ["GracefulStopWorker"]

#: Seconds between two attempts to end the wait for a job, until the worker has noticed.
_UNBLOCK_SECONDS = 0.02


class GracefulStopWorker(PipelinedWorker):
    """Has Redis end the wait for a job, and looks whether there is one before it leaves."""

    #: Whether the worker waits for a job, and so may be given one any moment.
    _is_waiting = False
    #: Whether it was given one and has not yet come back from it.
    _has_job = False
    #: Whether it leaves as soon as it is clear that it was given none, or has given it back.
    _is_leaving = False
    #: Whether it blocks in Redis until a job comes.
    _blocks = False
    #: Redis's number of the connection that it blocks on.
    _client_id: int | None = None

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job, but no longer if the worker is told to stop; what comes with that goes back.

        Raises:
            StopRequested: If it was.
        """
        if self._client_id is None:
            self._note_client_id()
        self._has_job, self._is_waiting = False, True
        try:
            taken = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        finally:
            self._is_waiting = self._blocks = False
        if taken is None or not self._is_leaving:
            return taken
        self._is_leaving = False
        requeue(self, *taken)
        raise StopRequested

    def reorder_queues(self, reference_queue: Queue) -> None:
        """Note that there is a job: RQ calls this first."""
        self._has_job = True
        super().reorder_queues(reference_queue)

    def idle(self) -> None:
        """Note that the worker will now block in Redis until a job comes."""
        super().idle()
        self._blocks = True

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Renew the worker's lease; RQ does so in every round of its wait.

        Raises:
            StopRequested: If the worker is told to stop and was given no job in the last round.
        """
        if self._is_leaving and self._is_waiting and not self._has_job:
            self._is_leaving = False
            raise StopRequested
        super().heartbeat(timeout, pipeline)
        if self._blocks:
            # Which of its pool's connections the worker gets can change with what other threads do.
            self._note_client_id()

    def _shutdown(self) -> None:
        """Stop after the job, if there is one; RQ's handler of SIGTERM and SIGINT calls this.

        Raises:
            StopRequested: If there is no job and none can come.
        """
        if self.get_state() == WorkerStatus.BUSY or not (self._is_waiting or self._has_job):
            super()._shutdown()  # type: ignore[no-untyped-call]
        elif self._has_job:
            self._stop_requested = True
        else:
            self._is_leaving = True
            if not self._end_wait():
                self._is_leaving = False
                raise StopRequested
            threading.Thread(target=self._end_waits, daemon=True).start()

    def unsubscribe(self) -> None:
        """Stop listening for commands; the thread is told first, so that it need not be waited for."""
        thread: Any = self.pubsub_thread
        if thread:
            thread.stop()
        super().unsubscribe()  # type: ignore[no-untyped-call]

    def _end_waits(self) -> None:
        """Repeat it until the worker has noticed: it may only have been about to wait."""
        while self._is_leaving and self._is_waiting and self._end_wait():
            time.sleep(_UNBLOCK_SECONDS)

    def _end_wait(self) -> bool:
        """Have Redis end the worker's blocking command; tells whether Redis could be asked."""
        if self._client_id is None:
            return False
        try:
            self.connection.client_unblock(self._client_id)
        except RedisError:
            return False
        return True

    def _note_client_id(self) -> None:
        try:
            self._client_id = self.connection.client_id()
        except RedisError:
            self._client_id = None
