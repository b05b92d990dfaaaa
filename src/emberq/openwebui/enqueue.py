"""Enqueue the processing of a file: once, with retries, and with a final status even after a kill.

Imports neither Open WebUI nor `emberq.openwebui.warm`, so that any program can enqueue files.
"""

from __future__ import annotations

import hashlib

from redis import Redis
from rq import Callback
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue

from emberq.entry_points import OPENWEBUI_FAIL_FILE, OPENWEBUI_JOB_STOPPED, OPENWEBUI_PROCESS_FILE

#: Key in a job's `meta`: the number of attempts after which the file is given up.
MAX_ATTEMPTS_KEY = "emberq_max_attempts"
#: Time limit of one attempt, in seconds; external extraction of a large scan takes long.
_TIMEOUT_SECONDS = 3600
#: Statuses of a job that runs or will run.
_UNFINISHED = frozenset(
    {JobStatus.CREATED, JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED}
)
#: Attempts to enqueue while other processes enqueue the same job and it ends in between.
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
        queue: A queue served by `emberq worker --preload emberq.openwebui.warm QUEUE`.
        file_id: Open WebUI's id of an uploaded file.
        user_id: The user to process it for; the file's owner if left out.
        collection_name: Index the text extracted earlier into this collection only.
        knowledge_id: Also add the file to this knowledge base.
        content: Text to index in place of the file's own. It is stored in Redis with the job.
        tenant: The tenant whose embedding settings are used; Open WebUI's own settings if left out.
        max_attempts: Number of attempts; a killed attempt counts too.
        retry_pause_seconds: Pause before another attempt; above 0, RQ's scheduler must run.
        timeout_seconds: Time limit of one attempt.
        at_front: Enqueue before all waiting jobs.

    Returns:
        The job; the existing one if it has not ended.
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
            return queue.enqueue(
                OPENWEBUI_PROCESS_FILE,
                args=(file_id,),
                kwargs={name: value for name, value in arguments.items() if value is not None},
                job_id=job_id,
                unique=True,
                # RQ runs the job once more than there are attempts: if the last one is killed, the
                # additional run writes the file's final status.
                retry=Retry(max=max_attempts, interval=retry_pause_seconds),
                job_timeout=timeout_seconds,
                meta={MAX_ATTEMPTS_KEY: max_attempts},
                description=f"process Open WebUI file {file_id}",
                on_stopped=Callback(OPENWEBUI_JOB_STOPPED),
                at_front=at_front,
            )
        except DuplicateJobError:
            job = _find_unfinished(queue, job_id)
            if job is not None:
                return job
    return queue.fetch_job(job_id) or Job.fetch(
        job_id, connection=queue.connection, serializer=queue.serializer
    )


def fail_stopped_file(job: Job, connection: Redis) -> None:
    """Enqueue the job that writes a stopped file's final status, as the killed horse could not."""
    queue = Queue(job.origin, connection=connection, serializer=job.serializer)
    queue.enqueue(
        OPENWEBUI_FAIL_FILE,
        args=(job.args[0], "cancelled"),
        description=f"fail Open WebUI file {job.args[0]}",
        retry=Retry(max=3),
        at_front=True,
    )


def _find_unfinished(queue: Queue, job_id: str) -> Job | None:
    """Return a job if it has not ended; delete it if it has."""
    try:
        job: Job = Job.fetch(job_id, connection=queue.connection, serializer=queue.serializer)
    except NoSuchJobError:
        return None
    if job.get_status() in _UNFINISHED:
        return job
    job.delete()
    return None


def _job_id(file_id: str, collection: str | None, content: str | None) -> str:
    parts = ["openwebui", file_id]
    if collection:
        parts.append(collection)
    if content is not None:
        parts.append(hashlib.sha256(content.encode()).hexdigest()[:12])
    return "-".join(parts)
