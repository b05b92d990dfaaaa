"""What happened, counted: small functions that cost nothing until metrics are switched on.

On a host many processes count, and most of them may be killed at any moment. So each writes its counts
into memory-mapped files of its own in one directory (prometheus-client's multiprocess mode), where they
outlive it; `emberq.telemetry.exposition` adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emberq.telemetry.catalogue import CATALOGUE, MetricSpec

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = [
    "after_fork",
    "config_applied",
    "config_push_lost",
    "connections_sampled",
    "enable",
    "enable_from_environment",
    "horse_measured",
    "horse_restarted",
    "is_enabled",
    "job_counts_itself",
    "job_finished",
    "metrics_directory",
    "metrics_registry",
    "operation_retried",
    "recovered",
    "request_answered",
    "resource_loaded",
    "rq_job_finished",
    "sample",
    "sampled",
    "stage_finished",
    "texts_embedded",
    "texts_wait",
    "vectors_looked_up",
    "worker_is",
]

#: States in which a job is over; one that waits for another attempt is not counted.
_ENDED = frozenset({"completed", "failed", "cancelled"})
#: How RQ names them.
_RQ_STATES = {"finished": "completed", "failed": "failed", "stopped": "cancelled", "canceled": "cancelled"}
#: prometheus-client's own name for the directory; read when it makes a file.
_DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class _State:
    """The metrics of this process, empty until they are switched on."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.registry: CollectorRegistry | None = None
        self.directory: Path | None = None
        self.samplers: list[Callable[[], None]] = []
        #: Whether the job that runs here counts itself, so that the horse does not count it again.
        self.job_counts_itself = False


_state = _State()


def enable(directory: Path | None = None) -> None:
    """Switch metrics on, for this process and the children it forks later; the first call decides.

    Args:
        directory: Where every process of the host writes its counts; one per host, as process ids tell
            the files apart. In memory, for this process alone, where left out.
    """
    if _state.metrics:
        return
    if directory is not None:
        # Where the program counts in such files already, its directory is the host's.
        directory = Path(os.environ.get(_DIRECTORY_VARIABLE) or directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[_DIRECTORY_VARIABLE] = str(directory)
    from prometheus_client import CollectorRegistry, values

    if directory is not None and values.ValueClass is values.MutexValue:
        # The library chose at its import, which may have been before we were asked.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    _state.directory = directory
    _state.registry = CollectorRegistry()
    _state.metrics = {
        entry.name: _make(entry, _state.registry) for entry in CATALOGUE if entry.kept_by == "host"
    }


def enable_from_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Switch metrics on where `EMBERQ_METRICS_DIR` or prometheus-client's own variable names a directory."""
    named = environ.get("EMBERQ_METRICS_DIR") or environ.get(_DIRECTORY_VARIABLE)
    if named:
        enable(Path(named))


def is_enabled() -> bool:
    """Tell whether anything is counted here."""
    return bool(_state.metrics)


def metrics_directory() -> Path | None:
    """Return the directory the host's processes write to, nothing where counts are kept in memory."""
    return _state.directory


def metrics_registry() -> CollectorRegistry | None:
    """Return the registry of this process, nothing until metrics are switched on."""
    return _state.registry


def after_fork() -> None:
    """Open this process's own files now: opened inside a job they would look like its leak."""
    _count("emberq_embedding_tokens_total", 0)


def job_counts_itself() -> None:
    """Say that the job that runs here reports its own end with `job_finished`."""
    _state.job_counts_itself = True


def job_finished(*, state: str, error_code: str = "", seconds: float | None = None) -> None:
    """Count the end of an attempt.

    Args:
        state: The job's state now; one that will be tried again is measured but not counted.
        error_code: Why it did not complete.
        seconds: How long the attempt ran; nothing if no attempt was running.
    """
    if state in _ENDED:
        _count("emberq_jobs_total", 1, state, error_code)
    if seconds is not None:
        _observe("emberq_job_duration_seconds", seconds)


def rq_job_finished(*, status: str, error_code: str, seconds: float | None = None) -> None:
    """Count the end of an RQ job, unless the job counts itself.

    Args:
        status: RQ's status of the job now.
        error_code: The code if it did not finish.
        seconds: How long it ran; nothing if that is not known.
    """
    counted, _state.job_counts_itself = _state.job_counts_itself, False
    if counted:
        return
    state = _RQ_STATES.get(status, status)
    job_finished(state=state, error_code="" if state == "completed" else error_code, seconds=seconds)


def stage_finished(stage: str, *, seconds: float) -> None:
    """Measure one stage of an attempt."""
    _observe("emberq_stage_duration_seconds", seconds, stage)


def worker_is(state: str) -> None:
    """Say what this process's worker slot does: `idle` or `busy`."""
    for name in ("idle", "busy"):
        _set("emberq_workers", float(name == state), name)


def horse_restarted(reason: str) -> None:
    """Count a horse that was replaced."""
    _count("emberq_horse_restarts_total", 1, reason)


def horse_measured(*, private_bytes: int) -> None:
    """Write down this horse's private memory."""
    _set("emberq_worker_private_memory_bytes", private_bytes)


def resource_loaded(resource: str, *, seconds: float) -> None:
    """Write down how long a resource took to load."""
    _set("emberq_resource_load_seconds", seconds, resource)


def config_applied(version: int) -> None:
    """Write down the configuration version in force."""
    _set("emberq_config_version", version)


def config_push_lost(reason: str) -> None:
    """Count a loss of the connection that tells of changed settings: `cut`, or `silent`."""
    _count("emberq_config_push_losses_total", 1, reason)


def connections_sampled(kind: str, *labels: str, idle: int, in_use: int) -> None:
    """Write down how many connections of a kind (`redis` or `db`) a pool of this process holds."""
    for state, number in (("idle", idle), ("in_use", in_use)):
        _set(f"emberq_{kind}_pool_connections", number, *labels, state)


def recovered(cause: str, *, seconds: float | None = None) -> None:
    """Count work that was saved from a death or a loss.

    Args:
        cause: `horse_killed`, `worker_lost`, `host_lost` or `ticket_lost`.
        seconds: From the loss until the work could go on; nothing if that is not known.
    """
    _count("emberq_recoveries_total", 1, cause)
    if seconds is not None:
        _observe("emberq_recovery_seconds", seconds)


def operation_retried(*, operation: str, outcome: str) -> None:
    """Count what became of a database or Redis operation that met a transient error."""
    _count("emberq_retries_total", 1, operation, outcome)


def texts_embedded(*, tokens: int) -> None:
    """Count tokens that went through the embedding model."""
    _count("emberq_embedding_tokens_total", tokens)


def texts_wait(queue: str, *, number: int) -> None:
    """Record how many texts wait for the model in an inference queue of this process."""
    _set("emberq_embedding_queue_depth", number, queue)


def vectors_looked_up(*, hits: int, misses: int) -> None:
    """Count texts that had a vector already and those that were embedded."""
    _count("emberq_embedding_cache_total", hits, "hit")
    _count("emberq_embedding_cache_total", misses, "miss")


def request_answered(*, route: str, method: str, status: int, seconds: float) -> None:
    """Measure an HTTP request."""
    _observe("emberq_http_request_duration_seconds", seconds, route, method, str(status))


def sampled(sampler: Callable[[], None]) -> Callable[[], None]:
    """Register what `sample` calls: a function that writes gauges of this process."""
    _state.samplers.append(sampler)
    return sampler


def sample() -> None:
    """Bring the gauges of this process up to date; call it between jobs and before showing them."""
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
