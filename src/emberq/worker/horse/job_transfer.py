"""Transfer of a job: the horse gets the very job object that the worker dequeued.

RQ's fork gives the horse a copy of the worker's objects. A warm horse gets the job over its socket, so that
it need not fetch from Redis what the worker has just fetched, and so that it sees all that the worker, or a
class derived from it, has set on the job. A job that cannot be sent is fetched.
"""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rq.executions import Execution
from rq.job import UNEVALUATED

from emberq.system.messages import Message
from emberq.telemetry.logs import get_logger

if TYPE_CHECKING:
    from rq.job import Job
    from rq.queue import Queue
    from rq.worker import Worker


log = get_logger(__name__)

#: Objects that every process has of its own and that are not sent; the last one is RQ's mark for a value
#: that is not loaded yet.
_CONNECTION, _SERIALIZER, _UNEVALUATED = range(3)


def pack_assignment(job: Job, queue: Queue, execution: Execution | None) -> Message:
    """Return the names of a job, its queue and its execution."""
    return {
        "job": job.id,
        "queue": queue.name,
        "execution": execution and execution.id,
        "created_at": execution and execution.created_at.timestamp(),
    }


def pack_job(job: Job) -> bytes:
    """Return the state of a job object, nothing if it has a state that cannot be sent."""
    local = {id(job.connection): _CONNECTION, id(job.serializer): _SERIALIZER, id(UNEVALUATED): _UNEVALUATED}
    state: dict[str, Any] = {}
    local_names: dict[str, int] = {}
    for name, value in vars(job).items():
        if id(value) in local:
            local_names[name] = local[id(value)]
        else:
            state[name] = value
    try:
        return pickle.dumps((state, local_names), pickle.HIGHEST_PROTOCOL)
    except Exception as exc:  # noqa: BLE001 - a job class may have any attribute, and pickling may raise anything
        log.debug("job_not_packed", rq_job=job.id, error=f"{type(exc).__name__}: {exc}")
        return b""


def unpack_job(worker: Worker, assignment: Message) -> Job:
    """Return the job of an assignment, fetched from Redis if it was not sent.

    Raises:
        NoSuchJobError: If it has to be fetched and is gone.
    """
    if "payload" in assignment:
        job = worker.job_class.__new__(worker.job_class)
        try:
            # Only the worker, which this process trusts, can have sent it.
            state, local_names = pickle.loads(assignment["payload"])  # noqa: S301
        except Exception as exc:  # noqa: BLE001 - its classes may not be importable here
            log.debug("job_not_unpacked", rq_job=assignment["job"], error=f"{type(exc).__name__}: {exc}")
        else:
            local = {
                _CONNECTION: worker.connection,
                _SERIALIZER: worker.serializer,
                _UNEVALUATED: UNEVALUATED,
            }
            vars(job).update(state)
            vars(job).update({name: local[number] for name, number in local_names.items()})
            return job
    return worker.job_class.fetch(
        assignment["job"], connection=worker.connection, serializer=worker.serializer
    )


def unpack_queue(worker: Worker, assignment: Message) -> Queue:
    """Return the queue of an assignment: the worker's own of that name, or else a new one."""
    for queue in worker.queues:
        if queue.name == assignment["queue"]:
            return queue
    return worker.queue_class(
        assignment["queue"],
        connection=worker.connection,
        job_class=worker.job_class,
        serializer=worker.serializer,
        death_penalty_class=worker.death_penalty_class,
    )


def unpack_execution(worker: Worker, assignment: Message, job: Job) -> Execution | None:
    """Return the execution of an assignment, nothing if the worker prepared none."""
    if assignment["execution"] is None:
        return None
    execution = Execution(
        id=assignment["execution"], job_id=job.id, connection=worker.connection, worker_name=worker.name
    )
    execution.created_at = datetime.fromtimestamp(assignment["created_at"], tz=UTC)
    execution._job = job  # noqa: SLF001 - what RQ's SpawnWorker does in its child
    return execution
