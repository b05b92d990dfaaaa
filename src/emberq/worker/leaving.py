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

from emberq.worker.frugal import FrugalWorker
from emberq.worker.give_back import give_back

if TYPE_CHECKING:
    from redis.client import Pipeline
    from rq.job import Job
    from rq.queue import Queue

__all__ = ["LeavingWorker"]

#: Seconds after which the number of the connection to Redis is asked for again; it may have been renewed.
_CLIENT_ID_SECONDS = 1.0
#: Seconds between two attempts to end the wait for a job, until the worker has noticed.
_UNBLOCK_SECONDS = 0.02


class LeavingWorker(FrugalWorker):
    """Has Redis end the wait for a job, and looks whether there is one before it leaves."""

    #: Whether the worker waits for a job, and so may be given one any moment.
    _is_waiting = False
    #: Whether it was given one and has not yet come back from it.
    _has_job = False
    #: Whether it leaves as soon as it is clear that it was given none, or has given it back.
    _is_leaving = False
    _client_id: int | None = None
    _client_id_at = 0.0

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job, but no longer if the worker is told to stop; what comes with that goes back.

        Raises:
            StopRequested: If it was.
        """
        self._note_client_id()
        self._has_job, self._is_waiting = False, True
        try:
            taken = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        finally:
            self._is_waiting = False
        if taken is None or not self._is_leaving:
            return taken
        self._is_leaving = False
        give_back(self, *taken)
        raise StopRequested

    def reorder_queues(self, reference_queue: Queue) -> None:
        """Note that there is a job: RQ calls this first."""
        self._has_job = True
        super().reorder_queues(reference_queue)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Renew the worker's lease; RQ does so in every round of its wait.

        Raises:
            StopRequested: If the worker is told to stop and was given no job in the last round.
        """
        if self._is_leaving and self._is_waiting and not self._has_job:
            self._is_leaving = False
            raise StopRequested
        super().heartbeat(timeout, pipeline)

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
            if self._client_id is None or not self._end_wait(self._client_id):
                self._is_leaving = False
                raise StopRequested
            threading.Thread(target=self._end_waits, args=(self._client_id,), daemon=True).start()

    def unsubscribe(self) -> None:
        """Stop listening for commands; the thread is told first, so that it need not be waited for."""
        thread: Any = self.pubsub_thread
        if thread:
            thread.stop()
        super().unsubscribe()  # type: ignore[no-untyped-call]

    def _end_waits(self, client_id: int) -> None:
        """Repeat it until the worker has noticed: it may only have been about to wait."""
        while self._is_leaving and self._is_waiting and self._end_wait(client_id):
            time.sleep(_UNBLOCK_SECONDS)

    def _end_wait(self, client_id: int) -> bool:
        """Have Redis end a blocking command of a connection; tells whether Redis could be asked."""
        try:
            self.connection.client_unblock(client_id)
        except RedisError:
            return False
        return True

    def _note_client_id(self) -> None:
        now = time.monotonic()
        if self._client_id is None or now - self._client_id_at >= _CLIENT_ID_SECONDS:
            self._client_id_at = now
            try:
                self._client_id = self.connection.client_id()
            except RedisError:
                self._client_id = None
