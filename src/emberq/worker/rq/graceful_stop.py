"""Graceful stop: a job that Redis delivers during shutdown is requeued.

RQ's worker raises out of the signal handler, wherever it is. If Redis has just delivered a job to it, no
process has that job: with one queue it is found a minute later, with several never. Workers that are
replaced while jobs come in would lose one now and then. Here a signal first ends the blocking pop, and the
worker leaves once it is clear whether a job came with it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from rq.exceptions import StopRequested
from rq.worker import WorkerStatus

from emberq.worker.rq.base import HorseWorker
from emberq.worker.rq.requeue import requeue

if TYPE_CHECKING:
    from rq.job import Job
    from rq.queue import Queue


#: Seconds between two attempts to end the wait for a job, until the worker has noticed.
_UNBLOCK_SECONDS = 0.02


class GracefulStopWorker(HorseWorker):
    """Ends the wait for a job with CLIENT UNBLOCK, and requeues a job that was delivered meanwhile."""

    #: Whether the worker waits for a job: Redis may deliver one at any moment.
    _is_waiting = False
    #: Whether a job was delivered and is not over.
    _has_job = False
    #: Whether it stops as soon as it is clear that no job was delivered, or that job is requeued.
    _is_stopping = False
    #: Whether it blocks in Redis until a job comes.
    _is_blocking = False
    #: Redis's number of the connection that it blocks on.
    _client_id: int | None = None

    def begin_wait(self) -> None:
        """Note that the worker waits for a job."""
        if self._client_id is None:
            self._read_client_id()
        self._has_job, self._is_waiting = False, True

    def begin_blocking(self) -> None:
        """Note that the worker now blocks in Redis until a job comes."""
        self._is_blocking = True

    def end_wait(self) -> None:
        """Note that the worker no longer waits."""
        self._is_waiting = self._is_blocking = False

    def requeue_if_stopping(self, job: Job, queue: Queue) -> None:
        """Requeue a job that was delivered although the worker was told to stop.

        Raises:
            StopRequested: If it was.
        """
        if self._is_stopping:
            self._is_stopping = False
            requeue(self, job, queue)
            raise StopRequested

    def raise_if_stopping(self) -> None:
        """Stop, in a round of the wait, if the worker was told to and the last round brought no job.

        Raises:
            StopRequested: If it stops.
        """
        if self._is_stopping and self._is_waiting and not self._has_job:
            self._is_stopping = False
            raise StopRequested

    def follow_connection(self) -> None:
        """Read which connection the worker blocks on; other threads may have changed the pool's order."""
        if self._is_blocking:
            self._read_client_id()

    def reorder_queues(self, reference_queue: Queue) -> None:
        """Note that a job was delivered: RQ calls this first."""
        self._has_job = True
        super().reorder_queues(reference_queue)

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
            self._is_stopping = True
            if not self._unblock():
                self._is_stopping = False
                raise StopRequested
            threading.Thread(target=self._unblock_until_noticed, daemon=True).start()

    def unsubscribe(self) -> None:
        """Stop listening for commands; the thread is told first, so that nothing waits for it."""
        thread: Any = self.pubsub_thread
        if thread:
            thread.stop()
        super().unsubscribe()  # type: ignore[no-untyped-call]

    def _unblock_until_noticed(self) -> None:
        """Repeat it until the worker has noticed: it may not have been blocking yet."""
        while self._is_stopping and self._is_waiting and self._unblock():
            time.sleep(_UNBLOCK_SECONDS)

    def _unblock(self) -> bool:
        """Have Redis end the worker's blocking command; tells whether Redis could be asked."""
        if self._client_id is None:
            return False
        try:
            self.connection.client_unblock(self._client_id)
        except RedisError:
            return False
        return True

    def _read_client_id(self) -> None:
        try:
            self._client_id = self.connection.client_id()
        except RedisError:
            self._client_id = None
