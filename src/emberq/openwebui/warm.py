"""The warm worker for Open WebUI's own pipeline: `emberq worker --preload emberq.openwebui.warm QUEUE`.

The installed Open WebUI is imported once per host, before the fork; jobs then run its processing without
paying for it again. docs/how-to/openwebui-warm-worker.md says how to set it up.
"""

from __future__ import annotations

import importlib
import os
import time
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from emberq.errors import EmberqError, Quarantined, error_for_code
from emberq.openwebui.enqueue import enqueue_file
from emberq.openwebui.worker.attempt_count import Delivery
from emberq.openwebui.worker.configuration import OpenWebUIConfiguration, PinnedConfiguration
from emberq.openwebui.worker.failures import clean, name_failure
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI, close_connections, import_open_webui
from emberq.openwebui.worker.interception import FileAttempt, intercept, running
from emberq.openwebui.worker.job_runtime import JobRuntime
from emberq.openwebui.worker.processing import FileTask, process, remove_chunks
from emberq.openwebui.worker.tenants import configure_tenants, confirm_settings, read_tenant
from emberq.openwebui.worker.version_check import uses_accelerator
from emberq.openwebui.worker.warmup import warm_up_file
from emberq.store.services import get_services
from emberq.system.forks import after_fork
from emberq.system.kept_open import keep_open
from emberq.telemetry.logs import get_logger
from emberq.worker.job.scope import job_scope
from emberq.worker.resources.connections import connection
from emberq.worker.resources.resources import resource

__all__ = ["enqueue_file", "process_file_job", "settle_file_job"]

log = get_logger(__name__)

#: Whether what is loaded survives a fork; a model on an accelerator does not.
_FORKS = not uses_accelerator()


@resource(fork_safe=_FORKS)
def open_webui() -> InstalledOpenWebUI:
    """Import the installed Open WebUI, with nothing of it left open."""
    found = import_open_webui()
    intercept(found)
    return found


@resource(fork_safe=_FORKS)
def configuration() -> OpenWebUIConfiguration:
    """Read Open WebUI's configuration once; each horse starts with it."""
    made = OpenWebUIConfiguration(open_webui())
    made.get()
    close_connections(open_webui())
    if configure_tenants():
        get_services().database.close()
    return made


@resource(fork_safe=_FORKS)
def local_models() -> dict[str, Any]:
    """Load the embedding model that runs in the process, if the configuration names one."""
    models: dict[str, Any] = {}
    _local_model(configuration().get(), models)
    close_connections(open_webui())
    return models


@resource(fork_safe=_FORKS)
def rehearsal() -> None:
    """Let the horses share what their first file would make each of them do for itself."""
    warm_up_file(open_webui(), configuration().get())
    close_connections(open_webui())


@connection
def rider() -> Iterator[JobRuntime]:
    """Start what a horse has of its own, and close it at the horse's end."""
    made = JobRuntime(open_webui(), configuration())
    yield made
    made.close()


@after_fork
def _saddle() -> None:
    """Open a horse's connections before its first job."""
    try:
        if local_models():
            _compute_on_one_thread()
        rider().warm_up()
        if configure_tenants():
            confirm_settings()
    except Exception as exc:  # noqa: BLE001 - the first job opens them, and says what is wrong
        log.warning("openwebui_not_warmed_up", error=type(exc).__name__)


@keep_open
def _held() -> list[object]:
    return rider.value.held() if rider.value is not None else []


def process_file_job(
    file_id: str,
    *,
    user_id: str | None = None,
    collection_name: str | None = None,
    knowledge_id: str | None = None,
    content: str | None = None,
    tenant: str | None = None,
) -> dict[str, Any]:
    """Process a file of Open WebUI as its server would; an ordinary RQ job.

    Running it again replaces what it stored. `enqueue_file` enqueues it so that a killed worker, too, ends
    in `completed` or `failed`.

    Args:
        file_id: The file.
        user_id: For whom; the file's owner if left out.
        collection_name: Index into this collection only, from what was extracted before.
        knowledge_id: Add the file to this knowledge base as well.
        content: Text to index in place of the file's own.
        tenant: Whose embedding settings are used; Open WebUI's own if left out.

    Returns:
        The file's id, its status, the number of chunks stored and the seconds it took.

    Raises:
        EmberqError: Why the file is `failed`, or `pending` for another attempt.
    """
    task = FileTask(file_id, user_id, collection_name, knowledge_id, content)
    delivery = Delivery.current()
    began_at = time.monotonic()
    with job_scope(openwebui_file=file_id, tenant=tenant, attempt=delivery.attempt) as scope:
        mine = rider()
        scope.callback(mine.tidy)
        attempt = FileAttempt(uuid.uuid4().hex, file_id, mine.rows)
        if delivery.is_left_over:
            return _give_up(mine, delivery, file_id)
        secrets: set[str] = set()
        try:
            _run(mine, task, attempt, tenant, secrets)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the file gets its end
            raise _end_badly(mine, task, attempt, delivery, exc, secrets) from None
    seconds = round(time.monotonic() - began_at, 3)
    log.info("openwebui_file_processed", chunks=attempt.chunks, seconds=seconds)
    return {"file_id": file_id, "status": "completed", "chunks": attempt.chunks, "seconds": seconds}


def settle_file_job(file_id: str, code: str) -> bool:
    """Write the end of a file whose attempt was ended from outside; returns whether it was still open.

    Args:
        file_id: The file.
        code: Why, as an error code of emberq.
    """
    with job_scope(openwebui_file=file_id) as scope:
        mine = rider()
        scope.callback(mine.tidy)
        return mine.rows.settle(file_id, error=error_for_code(code)().message)


def _run(
    mine: JobRuntime, task: FileTask, attempt: FileAttempt, tenant: str | None, secrets: set[str]
) -> None:
    """Make one attempt, from the signature on the file's row to its end."""
    file = mine.rows.get(task.file_id)
    mine.rows.begin(task.file_id, attempt.id)
    attempt.has_begun = True
    log.info("openwebui_file_begun", horse_pid=os.getpid())
    attempt.report(0, 0, "extracting")
    pinned = mine.configuration.get()
    if tenant is not None:
        pinned = pinned.with_changes(read_tenant(tenant))
    secrets.update(pinned.secrets())
    embedder = _local_model(pinned, local_models())
    with mine.configuration.pinned(pinned), mine.request(embedder=embedder) as request, running(attempt):
        work = process(mine.open_webui, request, task, file, attempt)
        mine.run(work, on_interruption=attempt.cancel)
    if not mine.rows.end(task.file_id, attempt.id, status="completed", error=None):
        attempt.require(at_once=True)


def _end_badly(
    mine: JobRuntime,
    task: FileTask,
    attempt: FileAttempt,
    delivery: Delivery,
    error: Exception,
    secrets: set[str],
) -> EmberqError:
    """Write down how the attempt ended and return it as an error that may be shown."""
    named = attempt.failure or name_failure(
        error,
        stage=attempt.stage,
        duplicate_content=mine.open_webui.duplicate_content,
        empty_content=mine.open_webui.empty_content,
        secrets=secrets,
    )
    goes_on = delivery.goes_on_after(named)
    log.warning(
        "openwebui_file_failed",
        error_code=named.code,
        error=named.message,
        stage=attempt.stage,
        max_attempts=delivery.max_attempts,
        goes_on=goes_on,
    )
    try:
        if not mine.rows.exists(task.file_id):
            # Not for a file that never was there: the worker may only look into the wrong database.
            if attempt.has_begun:
                remove_chunks(mine.open_webui, task)
        elif goes_on:
            mine.rows.end(task.file_id, attempt.id, status="pending", error=None)
        else:
            mine.rows.end(task.file_id, attempt.id, status="failed", error=_sentence(named, secrets))
        if not goes_on:
            delivery.is_last()
    except Exception as exc:  # noqa: BLE001 - the database is away; the next delivery writes it down
        log.warning("openwebui_status_not_written", error=type(exc).__name__)
    return named


def _give_up(mine: JobRuntime, delivery: Delivery, file_id: str) -> dict[str, Any]:
    """Write down that a file has used up its attempts without one that came to its end.

    Raises:
        Quarantined: Says so, unless the file has come to an end after all.
    """
    failure = Quarantined(
        f"Processing this file was tried {delivery.max_attempts} times and never came to an end.",
        hint="The worker's log says why; process the file again after that, or delete it.",
        file_id=file_id,
    )
    if mine.rows.settle(file_id, error=_sentence(failure, ())):
        raise failure
    return {"file_id": file_id, "status": mine.rows.get(file_id).status, "chunks": 0, "seconds": 0.0}


def _sentence(failure: EmberqError, secrets: Collection[str]) -> str:
    """Return what Open WebUI shows the file's user."""
    return clean(f"{failure.message.rstrip('.')}. {failure.hint}".strip(), secrets)


def _local_model(pinned: PinnedConfiguration, models: dict[str, Any]) -> Any:
    """Return the model of an engine in this process, loaded on its first use; nothing for other engines."""
    name = pinned.values.get("rag.embedding_model")
    if pinned.values.get("rag.embedding_engine") != "" or not name:
        return None
    if name not in models:
        _compute_on_one_thread()
        models.clear()
        models[name] = open_webui().retrieval.get_ef("", name)
        if models[name] is not None:
            # What its first computation makes is shared by all horses.
            models[name].encode(["A text."], batch_size=1)
        log.info("openwebui_model_loaded", model=name, found=models[name] is not None)
    return models[name]


def _compute_on_one_thread() -> None:
    """Keep PyTorch from threads of its own, before a fork and after it.

    Those that its first computation would start are missing in a forked horse, which waits for them for
    ever. The call makes its pool anew after a fork; two first computations at once, as of two batches of a
    file, would each find it half made (docs/decisions/0015-local-models-and-forks.md).
    """
    importlib.import_module("torch").set_num_threads(1)
