"""Reclaiming: jobs that a worker took from their queue and did not live to begin."""

from __future__ import annotations

import time
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import RedisError
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.registry import StartedJobRegistry

from emberq.telemetry.logs import get_logger

__all__ = ["Reclaimer"]

log = get_logger(__name__)

#: Seconds a job may be between its queue and its beginning; a living worker needs milliseconds.
_BETWEEN_SECONDS = 2.0
#: Seconds between two looks while there is something to look for.
_LOOK_SECONDS = 0.5
#: Seconds after a worker's death in which what it took may still turn up: the server may have served a
#: blocking pop whose socket had closed.
_WATCH_SECONDS = 30.0


class Reclaimer:
    """Puts jobs back to the front of their queue that stay between it and their beginning.

    RQ finds such jobs too, after a minute, and fails them. A supervisor knows that a worker has died,
    so it can look at once, and nothing was begun, so nothing is lost by running them.
    """

    def __init__(self, queues: Sequence[str], *, connection: Redis) -> None:
        """Watch over these queues; nothing is asked of Redis until a worker dies."""
        self._connection = connection
        self._queues = list(queues)
        self._seen: dict[tuple[str, str], float] = {}
        self._until = 0.0
        self._look_at = 0.0

    def note_death(self) -> None:
        """Look for what a dead worker had taken, for a while."""
        self._until = time.monotonic() + _WATCH_SECONDS

    def tick(self) -> None:
        """Look if it is time; Redis being away is no harm, the next look comes."""
        now = time.monotonic()
        if now > self._until or now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        try:
            for name in self._queues:
                self._look(name, now)
        except RedisError as exc:
            log.warning("reclaim_failed", error=type(exc).__name__)

    def _look(self, name: str, now: float) -> None:
        queue = Queue(name, connection=self._connection)
        between = IntermediateQueue(queue.key, self._connection)
        started = StartedJobRegistry(name, connection=self._connection)
        waiting = [job_id for job_id in between.get_job_ids() if job_id not in started]
        self._seen = {key: at for key, at in self._seen.items() if key[0] != name or key[1] in waiting}
        for job_id in waiting:
            if now - self._seen.setdefault((name, job_id), now) >= _BETWEEN_SECONDS:
                self._put_back(queue, between, job_id)

    def _put_back(self, queue: Queue, between: IntermediateQueue, job_id: str) -> None:
        with self._connection.pipeline() as pipeline:
            # Back first: between the two, and for whoever looks meanwhile, it is there twice, never nowhere.
            pipeline.lpush(queue.key, job_id)
            pipeline.lrem(between.key, 1, job_id)
            pipeline.execute()
        log.warning("job_reclaimed", rq_job=job_id, queue=queue.name)
