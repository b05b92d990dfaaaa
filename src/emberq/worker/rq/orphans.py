"""Requeueing orphans: jobs that a worker took from their queue and died before it started them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from redis import Redis
from redis.exceptions import RedisError
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.registry import StartedJobRegistry

from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds a job may be in the intermediate queue; a living worker needs milliseconds.
_ORPHANED_AFTER_SECONDS = 2.0
#: Seconds between two checks while there is something to check.
_CHECK_SECONDS = 0.5
#: Seconds after a worker's death in which orphans may still appear: the server may have served a blocking
#: pop whose socket had closed.
_WATCH_SECONDS = 30.0


class OrphanRequeuer:
    """Puts jobs that stay in RQ's intermediate queue back to the front of their queue.

    RQ finds such jobs too, after a minute, and fails them. A supervisor knows that a worker has died,
    so it can look at once, and no job was started, so nothing is lost by running it.
    """

    def __init__(
        self, queues: Sequence[str], *, connection: Redis, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._queues = list(queues)
        self._clock = clock
        #: When each job of an intermediate queue was first seen there.
        self._seen: dict[tuple[str, str], float] = {}
        self._watch_until = 0.0
        self._check_at = 0.0

    def note_death(self) -> None:
        """Look for orphans of a worker that has just died, for half a minute."""
        self._watch_until = self._clock() + _WATCH_SECONDS

    def tick(self) -> None:
        """Check if it is time; while Redis is away, the next check comes all the same."""
        now = self._clock()
        if now > self._watch_until or now < self._check_at:
            return
        self._check_at = now + _CHECK_SECONDS
        try:
            for name in self._queues:
                self._check(name, now)
        except (RedisError, UnicodeDecodeError) as exc:
            log.warning("orphan_check_failed", error=type(exc).__name__)

    def _check(self, name: str, now: float) -> None:
        queue = Queue(name, connection=self._connection)
        intermediate = IntermediateQueue(queue.key, self._connection)
        started = StartedJobRegistry(name, connection=self._connection)
        waiting = [job_id for job_id in intermediate.get_job_ids() if job_id not in started]
        self._seen = {key: at for key, at in self._seen.items() if key[0] != name or key[1] in waiting}
        for job_id in waiting:
            if now - self._seen.setdefault((name, job_id), now) >= _ORPHANED_AFTER_SECONDS:
                self._requeue(queue, intermediate, job_id)

    def _requeue(self, queue: Queue, intermediate: IntermediateQueue, job_id: str) -> None:
        with self._connection.pipeline() as pipeline:
            # Pushed before it is removed: a reader in between finds it twice, never nowhere.
            pipeline.lpush(queue.key, job_id)
            pipeline.lrem(intermediate.key, 1, job_id)
            pipeline.execute()
        log.warning("orphan_requeued", rq_job=job_id, queue=queue.name)
