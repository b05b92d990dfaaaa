"""Names that live outside the process: in Redis, in other programs' settings, in commands.

Redis has the queue, a ticket names a function, `--preload` and the command of a process name a module.
Change a name only together with everything that still has the old one; `tests/unit/test_entry_points.py` pins
them all. No other module has such a name as a string.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "DOCUMENT_RESOURCES",
    "OPENWEBUI_FAIL_FILE",
    "OPENWEBUI_JOB_STOPPED",
    "OPENWEBUI_PRELOAD",
    "OPENWEBUI_PROCESS_FILE",
    "PROCESS_FILE",
    "PUBLIC_NAMES",
    "QUEUE_NAME",
    "READER",
    "SPAWNED_HORSE",
    "SPAWNED_HORSE_SETUP",
    "TICKET_ENDED",
    "TICKET_STOPPED",
    "WARMUP_JOB",
]

#: The RQ queue of document jobs. A worker listens on one queue: RQ's recoverable pop works with a single one.
QUEUE_NAME: Final = "emberq"
#: The function that a document's ticket names.
PROCESS_FILE: Final = "emberq.pipeline.process.process_file"
#: The callbacks of a document's ticket.
TICKET_ENDED: Final = "emberq.dispatch.admit.on_ended"
TICKET_STOPPED: Final = "emberq.dispatch.recover.on_stopped"
#: The job that a supervisor runs before it forks; it does nothing.
WARMUP_JOB: Final = "emberq.worker.supervisor.warmup._warmed_up"
#: The module that a spawned horse's interpreter runs, and the function that sets a document host's up.
SPAWNED_HORSE: Final = "emberq.worker.horse.spawned"
SPAWNED_HORSE_SETUP: Final = "emberq.dispatch.host:configure_spawned"
#: The module that the reader's interpreter runs.
READER: Final = "emberq.pipeline.sandbox.reader"
#: The module whose resources a document host preloads.
DOCUMENT_RESOURCES: Final = "emberq.pipeline.resources"
#: The module that `--preload` names for Open WebUI's own pipeline.
OPENWEBUI_PRELOAD: Final = "emberq.openwebui.warm"
#: The functions of the jobs for Open WebUI's files, and the callback of a stopped one.
OPENWEBUI_PROCESS_FILE: Final = "emberq.openwebui.warm.process_file_job"
OPENWEBUI_FAIL_FILE: Final = "emberq.openwebui.warm.fail_file_job"
OPENWEBUI_JOB_STOPPED: Final = "emberq.openwebui.enqueue.fail_stopped_file"

#: The module of each name of `emberq`; it is imported on first use, so that `emberq --help` stays quick.
PUBLIC_NAMES: Final = {
    "WarmWorker": "emberq.worker.warm_worker",
    "connection": "emberq.worker.resources.connections",
    "get_redis_pool": "emberq.redis_pools",
    "get_worker_config": "emberq.config.current",
    "get_worker_embedding_functions": "emberq.pipeline.resources",
    "job_scope": "emberq.worker.job.scope",
    "progress": "emberq.worker.job.progress",
    "resource": "emberq.worker.resources.resources",
    "retry_db_operation": "emberq.retry.operation",
    "retry_redis_operation": "emberq.retry.operation",
}
