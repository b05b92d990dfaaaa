"""The warm-up: the supervisor runs a job through RQ's code before it forks anything.

The first jobs of a process fill caches, and Python's interpreter rewrites the code that it runs often (PEP
659). After the fork each worker and each horse would do that by itself, in pages of its own: 4 to 5 MB per
slot. Done once before, the pages are shared.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.worker import WorkerStatus
from setproctitle import getproctitle, setproctitle

from emberq.telemetry.logs import get_logger
from emberq.worker.job.limits import job_limits
from emberq.worker.job.scope import job_scope
from emberq.worker.job.tempdirs import use_root

if TYPE_CHECKING:
    from rq.queue import Queue

    from emberq.worker.warm_worker import WarmWorker


log = get_logger(__name__)

#: Runs of a warm-up: the interpreter rewrites a function after some eight, and the functions that it calls a
#: few runs later.
WARMUP_RUNS = 12
#: Seconds after which Redis deletes the job of a warm-up whose process died.
_KEPT_SECONDS = 60


def warm_up(worker: WarmWorker) -> None:
    """Run a job that does nothing a few times, on a queue that has the worker's name.

    Nothing of it stays in Redis, and the connections are closed again. Without Redis there is no
    warm-up, and every slot needs some megabytes more.

    Args:
        worker: A worker made for this, with a name that no other worker has.
    """
    title = getproctitle()
    worker.is_warming_up = True
    queue = worker.queue_class(worker.name, connection=worker.connection, serializer=worker.serializer)
    try:
        for _ in range(WARMUP_RUNS):
            with job_scope():
                _run_once(worker, queue)
        _clean_up(worker, queue)
    except RedisError as exc:
        log.info("warmup_failed", error=str(exc))
    finally:
        use_root(None)
        worker.connection.connection_pool.disconnect()
        setproctitle(title)


def _warmed_up() -> None:
    """Do nothing; the job of the warm-up."""


def _run_once(worker: WarmWorker, queue: Queue) -> None:
    queue.enqueue_call(_warmed_up, timeout=_KEPT_SECONDS, ttl=_KEPT_SECONDS, result_ttl=0)
    taken = worker.queue_class.dequeue_any(
        [queue], None, connection=worker.connection, job_class=worker.job_class, serializer=worker.serializer
    )
    if taken is None:
        return
    job, _ = taken
    execution = worker.prepare_execution(job)
    with job_limits(worker.policy.for_job(job.meta)):
        worker.perform_job(job, queue, execution)
    worker.executions.clear()
    worker.set_state(WorkerStatus.IDLE)


def _clean_up(worker: WarmWorker, queue: Queue) -> None:
    with contextlib.suppress(RedisError):
        queue.delete()
    registries = (StartedJobRegistry, FinishedJobRegistry, FailedJobRegistry)
    keys = [registry(queue.name, connection=worker.connection).key for registry in registries]
    worker.connection.delete(worker.key, queue.intermediate_queue_key, *keys)
