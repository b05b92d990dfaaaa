"""Requeueing a job that was taken but not run: it goes to the front of its queue, and no retry is used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emberq.telemetry.logs import get_logger

if TYPE_CHECKING:
    from rq.job import Job
    from rq.queue import Queue
    from rq.worker.base import BaseWorker


log = get_logger(__name__)


def requeue(worker: BaseWorker, job: Job, queue: Queue) -> None:
    """Put a worker's job back to the front of its queue; none of its retries is used up.

    Args:
        worker: The worker that took it.
        job: The job, whose process has ended or was never started.
        queue: The queue it came from.
    """
    with worker.connection.pipeline() as pipeline:
        # RQ keeps a job in the intermediate queue until it has started; left there, it would be queued twice.
        pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
        if worker.execution is not None:
            worker.cleanup_execution(job, pipeline=pipeline, execution=worker.execution)
        queue._enqueue_job(job, pipeline=pipeline, at_front=True)  # noqa: SLF001 - what RQ's own retry does
        pipeline.execute()
    worker._release_slot_safely(job)  # noqa: SLF001 - the same
    log.info("job_requeued", rq_job=job.id, queue=queue.name)
