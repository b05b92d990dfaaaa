"""Open WebUI's own processing in warm workers: `emberq worker --preload emberq.openwebui.warm QUEUE`.

The installed Open WebUI is imported once per host, before the fork; jobs then use it without importing it
again. docs/how-to/openwebui-warm-worker.md has the setup.
"""

from __future__ import annotations

import importlib
import os
import time
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from emberq.errors import EmberqError, Quarantined, error_for_code
from emberq.openwebui.worker.attempt_count import AttemptCount
from emberq.openwebui.worker.configuration import OpenWebUIConfiguration, PinnedConfiguration
from emberq.openwebui.worker.failures import clean, failure_from
from emberq.openwebui.worker.file_attempt import FileAttempt, running
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI, close_connections, import_open_webui
from emberq.openwebui.worker.interception import intercept
from emberq.openwebui.worker.job_runtime import JobRuntime
from emberq.openwebui.worker.processing import FileTask, delete_all_chunks, process
from emberq.openwebui.worker.tenants import configure_tenants, read_tenant, refresh_settings
from emberq.openwebui.worker.version_check import uses_accelerator
from emberq.openwebui.worker.warmup import warm_up_before_fork
from emberq.store.services import get_services
from emberq.system.forks import after_fork
from emberq.system.kept_open import keep_open
from emberq.telemetry.logs import get_logger
from emberq.worker.job.scope import job_scope
from emberq.worker.resources.connections import connection
from emberq.worker.resources.resources import resource

log = get_logger(__name__)

#: Whether the resources survive a fork; a model on an accelerator does not.
_IS_FORK_SAFE = not uses_accelerator()


@resource(fork_safe=_IS_FORK_SAFE)
def open_webui() -> InstalledOpenWebUI:
    """Import the installed Open WebUI and intercept its functions."""
    installed = import_open_webui()
    intercept(installed)
    return installed


@resource(fork_safe=_IS_FORK_SAFE)
def configuration() -> OpenWebUIConfiguration:
    """Read Open WebUI's configuration, with which each horse starts."""
    made = OpenWebUIConfiguration(open_webui())
    made.get()
    close_connections(open_webui())
    if configure_tenants():
        get_services().database.close()
    return made


@resource(fork_safe=_IS_FORK_SAFE)
def local_models() -> dict[str, Any]:
    """Load the embedding model that runs in this process, if the configuration names one."""
    models: dict[str, Any] = {}
    _local_model(configuration().get(), models)
    close_connections(open_webui())
    return models


@resource(fork_safe=_IS_FORK_SAFE)
def warmup() -> None:
    """Process a file that does not exist, so that horses share the memory that this writes to."""
    warm_up_before_fork(open_webui(), configuration().get())
    close_connections(open_webui())


@connection
def job_runtime() -> Iterator[JobRuntime]:
    """Start a horse's own runtime; close it at the horse's end."""
    runtime = JobRuntime(open_webui(), configuration())
    yield runtime
    runtime.close()


@after_fork
def _warm_up_horse() -> None:
    """Open a horse's connections before its first job."""
    try:
        if local_models():
            _compute_on_one_thread()
        job_runtime().warm_up()
        if configure_tenants():
            refresh_settings()
    except Exception as exc:  # noqa: BLE001 - the first job opens them again and reports the error
        log.warning("openwebui_not_warmed_up", error=type(exc).__name__)


@keep_open
def _kept_open() -> list[object]:
    return job_runtime.value.kept_open() if job_runtime.value is not None else []


def process_file_job(
    file_id: str,
    *,
    user_id: str | None = None,
    collection_name: str | None = None,
    knowledge_id: str | None = None,
    content: str | None = None,
    tenant: str | None = None,
) -> dict[str, Any]:
    """Process a file of Open WebUI as its server would; an RQ job.

    Running it again replaces the chunks that it stored. `enqueue_file` enqueues it so that the file also
    ends in `completed` or `failed` if its worker is killed.

    Args:
        file_id: The file.
        user_id: The user to process it for; the file's owner if left out.
        collection_name: Index the text extracted earlier into this collection only.
        knowledge_id: Also add the file to this knowledge base.
        content: Text to index in place of the file's own.
        tenant: The tenant whose embedding settings are used; Open WebUI's own settings if left out.

    Returns:
        `file_id`, `status`, `chunks` (the number of stored chunks) and `seconds`.

    Raises:
        EmberqError: Why the file is `failed`, or `pending` until the next attempt.
    """
    task = FileTask(file_id, user_id, collection_name, knowledge_id, content)
    count = AttemptCount.current()
    started_at = time.monotonic()
    with job_scope(openwebui_file=file_id, tenant=tenant, attempt=count.attempt) as scope:
        runtime = job_runtime()
        scope.callback(runtime.end_job)
        attempt = FileAttempt(uuid.uuid4().hex, file_id, runtime.rows, tenant=tenant)
        if count.is_exhausted:
            return _give_up(runtime, count, file_id)
        secrets: set[str] = set()
        try:
            _run(runtime, task, attempt, tenant, secrets)
        except Exception as exc:  # noqa: BLE001 - every error must become the file's status
            raise _write_failure(runtime, task, attempt, count, exc, secrets) from None
    seconds = round(time.monotonic() - started_at, 3)
    log.info("openwebui_file_processed", chunks=attempt.chunks, seconds=seconds)
    return {"file_id": file_id, "status": "completed", "chunks": attempt.chunks, "seconds": seconds}


def fail_file_job(file_id: str, code: str) -> bool:
    """Set a file's status to `failed` after its horse was killed on command; an RQ job.

    Args:
        file_id: The file.
        code: The error code, whose message the file's user is shown.

    Returns:
        False if the file's processing had ended.
    """
    with job_scope(openwebui_file=file_id) as scope:
        runtime = job_runtime()
        scope.callback(runtime.end_job)
        return runtime.rows.fail_unfinished(file_id, error=error_for_code(code)().message)


def _run(
    runtime: JobRuntime, task: FileTask, attempt: FileAttempt, tenant: str | None, secrets: set[str]
) -> None:
    """Run one attempt, and add the secrets that it uses to `secrets`."""
    file = runtime.rows.get(task.file_id)
    runtime.rows.start(task.file_id, attempt.id)
    attempt.has_started = True
    log.info("openwebui_file_started", horse_pid=os.getpid())
    attempt.report(0, 0, "extracting")
    pinned = runtime.configuration.get()
    if tenant is not None:
        pinned = pinned.with_changes(read_tenant(tenant))
    secrets.update(pinned.secrets())
    embedder = _local_model(pinned, local_models())
    with (
        runtime.configuration.pinned(pinned),
        runtime.request(embedder=embedder) as request,
        running(attempt),
    ):
        work = process(runtime.open_webui, request, task, file, attempt)
        runtime.run(work, on_interruption=attempt.cancel)
    if not runtime.rows.finish(task.file_id, attempt.id, status="completed", error=None):
        attempt.check_owner(now=True)


def _write_failure(
    runtime: JobRuntime,
    task: FileTask,
    attempt: FileAttempt,
    count: AttemptCount,
    error: Exception,
    secrets: set[str],
) -> EmberqError:
    """Write the status of a failed attempt, and return its error without secrets."""
    failure = attempt.failure or failure_from(
        error,
        stage=attempt.stage,
        duplicate_content=runtime.open_webui.duplicate_content,
        empty_content=runtime.open_webui.empty_content,
        secrets=secrets,
    )
    will_retry = count.will_retry(failure)
    log.warning(
        "openwebui_file_failed",
        error_code=failure.code,
        error=failure.message,
        stage=attempt.stage,
        max_attempts=count.max_attempts,
        will_retry=will_retry,
    )
    try:
        if not runtime.rows.exists(task.file_id):
            # Only if it existed before: otherwise the worker may be using the wrong database.
            if attempt.has_started:
                delete_all_chunks(runtime.open_webui, task)
        elif will_retry:
            runtime.rows.finish(task.file_id, attempt.id, status="pending", error=None)
        else:
            message = _user_message(failure, secrets)
            runtime.rows.finish(task.file_id, attempt.id, status="failed", error=message)
        if not will_retry:
            count.stop_retries()
    except Exception as exc:  # noqa: BLE001 - the database is away; the next run writes the status
        log.warning("openwebui_status_not_written", error=type(exc).__name__)
    return failure


def _give_up(runtime: JobRuntime, count: AttemptCount, file_id: str) -> dict[str, Any]:
    """Write `failed` for a file whose last attempt was killed; raise why, unless its processing had ended."""
    failure = Quarantined(
        f"Processing this file was tried {count.max_attempts} times and never came to an end.",
        hint="The worker's log says why; process the file again after that, or delete it.",
        file_id=file_id,
    )
    if runtime.rows.fail_unfinished(file_id, error=_user_message(failure, ())):
        raise failure
    return {"file_id": file_id, "status": runtime.rows.get(file_id).status, "chunks": 0, "seconds": 0.0}


def _user_message(failure: EmberqError, secrets: Collection[str]) -> str:
    """Return the text that Open WebUI shows the file's user."""
    return clean(f"{failure.message.rstrip('.')}. {failure.hint}".strip(), secrets)


def _local_model(pinned: PinnedConfiguration, models: dict[str, Any]) -> Any:
    """Return the embedding model of this process, loaded on first use; None for other engines."""
    name = pinned.values.get("rag.embedding_model")
    if pinned.values.get("rag.embedding_engine") != "" or not name:
        return None
    if name not in models:
        _compute_on_one_thread()
        models.clear()
        models[name] = open_webui().retrieval.get_ef("", name)
        if models[name] is not None:
            # The memory that the first computation writes to is shared by all horses.
            models[name].encode(["A text."], batch_size=1)
        log.info("openwebui_model_loaded", model=name, found=models[name] is not None)
    return models[name]


def _compute_on_one_thread() -> None:
    """Keep PyTorch from starting threads, before a fork and after it.

    A forked horse does not have the threads of a computation before the fork, and would wait for them
    forever. After the fork, the call creates PyTorch's thread pool; if two batches of a file were the first
    to do so, each would find it half made (docs/decisions/0015-local-models-and-forks.md).
    """
    importlib.import_module("torch").set_num_threads(1)
