"""Metrics of this process: one function for each metric; all do nothing until metrics are switched on.

Many processes of a host count, and most of them may be killed at any moment. Each process writes its values
into memory-mapped files of its own in one directory (prometheus-client's multiprocess mode). The files
outlive the process, and `emberq.telemetry.exposition` adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emberq.telemetry.catalogue import CATALOGUE, MetricSpec

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: RQ's statuses of a job that has ended, with the states that are counted. A job with any other status will
#: run again.
_RQ_STATES = {"finished": "completed", "failed": "failed", "stopped": "cancelled", "canceled": "cancelled"}
#: The variable in which prometheus-client reads the directory when it makes a file.
_DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class _State:
    """The metrics of this process; there are none until they are switched on."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.registry: CollectorRegistry | None = None
        self.directory: Path | None = None
        self.samplers: list[Callable[[], None]] = []
        #: Whether the running job counts its own end, so that the horse does not count it again.
        self.job_counts_itself = False


_state = _State()


def enable(directory: Path | None = None) -> None:
    """Switch metrics on for this process and the children that it forks later; a second call does nothing.

    Args:
        directory: The directory in which all processes of the host count. Each host needs its own, because
            files are named by process ids. By default this process counts alone, in memory.
    """
    if _state.metrics:
        return
    if directory is not None:
        # A program that uses prometheus-client's multiprocess mode itself has chosen a directory already.
        directory = Path(os.environ.get(_DIRECTORY_VARIABLE) or directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[_DIRECTORY_VARIABLE] = str(directory)
    from prometheus_client import CollectorRegistry, values

    if directory is not None and values.ValueClass is values.MutexValue:
        # prometheus-client chose at its import, which may have been earlier.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    _state.directory = directory
    _state.registry = CollectorRegistry()
    _state.metrics = {
        entry.name: _make(entry, _state.registry) for entry in CATALOGUE if entry.kept_by == "host"
    }


def enable_from_environment() -> None:
    """Switch metrics on if `EMBERQ_METRICS_DIR` or prometheus-client's own variable names a directory."""
    named = os.environ.get("EMBERQ_METRICS_DIR") or os.environ.get(_DIRECTORY_VARIABLE)
    if named:
        enable(Path(named))


def is_enabled() -> bool:
    """Tell whether metrics are switched on."""
    return bool(_state.metrics)


def metrics_directory() -> Path | None:
    """Return the directory in which this process counts, None if it counts in memory or not at all."""
    return _state.directory


def metrics_registry() -> CollectorRegistry | None:
    """Return the registry of this process, None until metrics are switched on."""
    return _state.registry


def open_own_files() -> None:
    """Open this process's files; a file that a job opened would count as its leak."""
    _count("emberq_embedding_tokens_total", 0)


def leave_count_to_job() -> None:
    """Tell the horse not to count the running job, because the job calls `count_job` itself."""
    _state.job_counts_itself = True


def count_job(*, state: str, error_code: str = "") -> None:
    """Count a job that has ended.

    Args:
        state: `completed`, `failed` or `cancelled`.
        error_code: Why it did not complete.
    """
    _count("emberq_jobs_total", 1, state, error_code)


def count_file_warning(*, code: str) -> None:
    """Count a file of which a part is not in its text."""
    _count("emberq_file_warnings_total", 1, code)


def observe_attempt(*, seconds: float) -> None:
    """Measure one attempt at a job."""
    _observe("emberq_job_duration_seconds", seconds)


def count_rq_job(*, status: str, error_code: str, seconds: float | None = None) -> None:
    """Measure an attempt at an RQ job, and count the job if it has ended, unless it counts itself.

    Args:
        status: RQ's status of the job after the attempt.
        error_code: The code that is counted if the job did not finish.
        seconds: How long the attempt ran, if that is known.
    """
    counted, _state.job_counts_itself = _state.job_counts_itself, False
    if counted:
        return
    if state := _RQ_STATES.get(status):
        count_job(state=state, error_code="" if state == "completed" else error_code)
    if seconds is not None:
        observe_attempt(seconds=seconds)


def observe_stage(stage: str, *, seconds: float) -> None:
    """Measure one stage of an attempt."""
    _observe("emberq_stage_duration_seconds", seconds, stage)


def set_worker_state(state: str) -> None:
    """Set whether this process's worker slot is `idle` or `busy`."""
    for name in ("idle", "busy"):
        _set("emberq_workers", float(name == state), name)


def count_horse_restart(reason: str) -> None:
    """Count a horse that was replaced."""
    _count("emberq_horse_restarts_total", 1, reason)


def set_horse_memory(*, private_bytes: int) -> None:
    """Set this horse's private memory."""
    _set("emberq_worker_private_memory_bytes", private_bytes)


def set_resource_load_time(resource: str, *, seconds: float) -> None:
    """Set how long the load of a resource took."""
    _set("emberq_resource_load_seconds", seconds, resource)


def set_config_version(version: int) -> None:
    """Set the configuration version in force."""
    _set("emberq_config_version", version)


def count_push_loss() -> None:
    """Count a loss of the connection that receives changes of the settings."""
    _count("emberq_config_push_losses_total", 1)


def set_pool_connections(kind: str, *labels: str, idle: int, in_use: int) -> None:
    """Set how many connections of a kind (`redis` or `db`) a pool of this process has open."""
    for state, number in (("idle", idle), ("in_use", in_use)):
        _set(f"emberq_{kind}_pool_connections", number, *labels, state)


def count_recovery(cause: str, *, seconds: float | None = None) -> None:
    """Count a death or a loss whose work can continue.

    Args:
        cause: `horse_killed`, `worker_lost`, `host_lost` or `ticket_lost`.
        seconds: From the loss until the work could continue, if that is known.
    """
    _count("emberq_recoveries_total", 1, cause)
    if seconds is not None:
        _observe("emberq_recovery_seconds", seconds)


def count_refused_job(reason: str) -> None:
    """Count an RQ job that was not run: its function, callback, payload, fields or keys are the reason."""
    _count("emberq_refused_jobs_total", 1, reason)


def count_retry(*, operation: str, outcome: str) -> None:
    """Count the outcome of a database or Redis operation that met a transient error."""
    _count("emberq_retries_total", 1, operation, outcome)


def count_embedded_tokens(*, tokens: int) -> None:
    """Count tokens that the embedding model has processed."""
    _count("emberq_embedding_tokens_total", tokens)


def set_waiting_texts(queue: str, *, number: int) -> None:
    """Record how many texts wait for the model in an inference queue of this process."""
    _set("emberq_embedding_queue_depth", number, queue)


def count_vector_lookups(*, hits: int, misses: int) -> None:
    """Count texts whose vector was known, and texts that had to be embedded."""
    _count("emberq_embedding_cache_total", hits, "hit")
    _count("emberq_embedding_cache_total", misses, "miss")


def observe_request(*, route: str, method: str, status: int, seconds: float) -> None:
    """Measure an HTTP request."""
    _observe("emberq_http_request_duration_seconds", seconds, route, method, str(status))


def sampler(sampler: Callable[[], None]) -> Callable[[], None]:
    """Register a function that sets gauges of this process; `sample` calls it."""
    _state.samplers.append(sampler)
    return sampler


def sample() -> None:
    """Update the gauges of this process; call it between jobs and before the gauges are read."""
    if _state.metrics:
        for sampler in _state.samplers:
            sampler()


def _count(name: str, amount: float, *labels: str) -> None:
    metric = _labelled(name, labels)
    if metric is not None:
        metric.inc(amount)


def _observe(name: str, value: float, *labels: str) -> None:
    metric = _labelled(name, labels)
    if metric is not None:
        metric.observe(value)


def _set(name: str, value: float, *labels: str) -> None:
    metric = _labelled(name, labels)
    if metric is not None:
        metric.set(value)


def _labelled(name: str, labels: tuple[str, ...]) -> Any:
    metric = _state.metrics.get(name)
    return metric.labels(*labels) if metric is not None and labels else metric


def _make(entry: MetricSpec, registry: CollectorRegistry) -> Any:
    from prometheus_client import Counter, Gauge, Histogram

    labels = list(entry.labels)
    if entry.kind == "counter":
        return Counter(entry.name.removesuffix("_total"), entry.help, labels, registry=registry)
    if entry.kind == "gauge":
        return Gauge(entry.name, entry.help, labels, registry=registry, multiprocess_mode=entry.combine)
    return Histogram(entry.name, entry.help, labels, registry=registry, buckets=entry.buckets)
