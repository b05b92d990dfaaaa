"""Put a file's processing on a queue: once, with retries, and with an end whatever happens to it.

Light on purpose: who enqueues needs no Open WebUI, and neither does the worker that stops a job.
"""

from __future__ import annotations

import hashlib
from typing import Any

from redis import Redis
from rq import Callback
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue

__all__ = ["MAX_ATTEMPTS_KEY", "enqueue_file", "settle_stopped"]

#: The key in a job's `meta` that says after how many attempts the file is given up.
MAX_ATTEMPTS_KEY = "emberq_max_attempts"
#: Seconds a job may run; external extraction of a large scan takes its time.
_TIMEOUT_SECONDS = 3600
#: Where a job is that will still run, or runs.
_LIVE = frozenset(
    {JobStatus.CREATED, JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED}
)
#: Times that an ended job of the same id may come in between.
_MAX_TRIES = 5


def enqueue_file(
    queue: Queue,
    file_id: str,
    *,
    user_id: str | None = None,
    collection_name: str | None = None,
    knowledge_id: str | None = None,
    content: str | None = None,
    tenant: str | None = None,
    max_attempts: int = 3,
    retry_pause_seconds: int = 0,
    timeout_seconds: int = _TIMEOUT_SECONDS,
    at_front: bool = False,
) -> Job:
    """Enqueue `process_file_job` for a file, unless the same work is already waiting or running.

    Args:
        queue: Served by `emberq worker --preload emberq.openwebui.warm QUEUE`.
        file_id: Open WebUI's id of an uploaded file.
        user_id: For whom it is processed; the file's owner if left out.
        collection_name: Index into this collection only, from what was extracted before.
        knowledge_id: Add the file to this knowledge base as well.
        content: Text to index in place of the file's own. It lies in Redis until the job is done.
        tenant: Whose embedding settings are used; Open WebUI's own if left out.
        max_attempts: Times the file is tried, a killed worker counting as one.
        retry_pause_seconds: Before another attempt; above 0 RQ's scheduler must run.
        timeout_seconds: Time one attempt may take.
        at_front: Before all that waits.

    Returns:
        The job; the one that is there already if it has not ended.
    """
    job_id = _job_id(file_id, knowledge_id or collection_name, content)
    arguments = {
        "user_id": user_id,
        "collection_name": collection_name,
        "knowledge_id": knowledge_id,
        "content": content,
        "tenant": tenant,
    }
    for _ in range(_MAX_TRIES):
        try:
            # One delivery more than attempts: it is left for writing down that a file ended its workers.
            return queue.enqueue(
                "emberq.openwebui.warm.process_file_job",
                args=(file_id,),
                kwargs={name: value for name, value in arguments.items() if value is not None},
                job_id=job_id,
                unique=True,
                retry=Retry(max=max_attempts, interval=retry_pause_seconds),
                job_timeout=timeout_seconds,
                meta={MAX_ATTEMPTS_KEY: max_attempts},
                description=f"process Open WebUI file {file_id}",
                on_stopped=Callback("emberq.openwebui.enqueue.settle_stopped"),
                at_front=at_front,
            )
        except DuplicateJobError:
            job = _living(queue, job_id)
            if job is not None:
                return job
    return queue.fetch_job(job_id) or Job.fetch(
        job_id, connection=queue.connection, serializer=queue.serializer
    )


def settle_stopped(job: Job, connection: Redis) -> None:
    """After a stop command: have a warm horse write the end of the file, which the killed one could not."""
    queue = Queue(job.origin, connection=connection, serializer=job.serializer)
    queue.enqueue(
        "emberq.openwebui.warm.settle_file_job",
        args=(job.args[0], "cancelled"),
        description=f"settle Open WebUI file {job.args[0]}",
        retry=Retry(max=3),
        at_front=True,
    )


def _living(queue: Queue, job_id: str) -> Job | None:
    """Return the job of an id if it has not ended; one that has is removed."""
    try:
        job: Job = Job.fetch(job_id, connection=queue.connection, serializer=queue.serializer)
    except NoSuchJobError:
        return None
    if job.get_status() in _LIVE:
        return job
    job.delete()
    return None


def _job_id(file_id: str, collection: str | None, content: str | None) -> str:
    parts: list[Any] = ["openwebui", file_id]
    if collection:
        parts.append(collection)
    if content is not None:
        parts.append(hashlib.sha256(content.encode()).hexdigest()[:12])
    return "-".join(parts)
