"""Every metric emberq has: its name, kind, labels and meaning, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CATALOGUE", "HOST", "SERVICE", "MetricSpec", "spec"]

#: Who keeps the metric: every process of a host as it works, or the API from the database when asked.
HOST: Literal["host"] = "host"
SERVICE: Literal["service"] = "service"

#: Seconds, from a no-op of a warm horse to the longest job that is allowed by default.
_JOB_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
#: Seconds, from a request served from memory to one that waited for an engine.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Seconds, from a horse that stood ready to a host that was silent for its whole lease.
_RECOVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 12.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: As Prometheus shows it.
        kind: `counter`, `gauge` or `histogram`.
        help: What it says, in one sentence.
        labels: Its labels, with the values each may have.
        kept_by: `host` or `service`.
        combine: How the gauges of a host's living processes become one: their sum, or the newest value.
        buckets: Upper bounds of a histogram, in seconds.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: dict[str, str]
    kept_by: Literal["host", "service"] = HOST
    combine: Literal["livesum", "livemostrecent"] = "livesum"
    buckets: tuple[float, ...] = ()


_STATES = "`completed`, `failed`, `cancelled`"
_CODE = "one of the error codes, empty where there was none"

CATALOGUE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "emberq_jobs_total",
        "counter",
        "Jobs that ended; at the API all of them, from the database, at a host those that ended there.",
        {"state": _STATES, "error_code": _CODE},
    ),
    MetricSpec(
        "emberq_job_duration_seconds",
        "histogram",
        "Time a worker spent on one attempt at a job.",
        {},
        buckets=_JOB_BUCKETS,
    ),
    MetricSpec(
        "emberq_stage_duration_seconds",
        "histogram",
        "Time spent in one stage of an attempt.",
        {"stage": "`extracting`, `splitting`, `embedding`, `storing`"},
        buckets=_JOB_BUCKETS,
    ),
    MetricSpec(
        "emberq_workers",
        "gauge",
        "Worker slots; at the API those of all hosts, at a host its own.",
        {"state": "`idle`, `busy` at a host; `alive`, `lost` at the API"},
    ),
    MetricSpec(
        "emberq_horse_restarts_total",
        "counter",
        "Horses that were replaced.",
        {
            "reason": "`max_jobs`, `memory`, `leak`, `died` (idle); over a job: `killed`, `stalled`, "
            "`process_limit`, `cpu_limit`, `requeued`"
        },
    ),
    MetricSpec(
        "emberq_worker_private_memory_bytes",
        "gauge",
        "Private memory of the host's horses after their last jobs, together.",
        {},
    ),
    MetricSpec(
        "emberq_resource_load_seconds",
        "gauge",
        "Time the newest load of a resource took.",
        {"resource": "the name of the function that `@resource` decorates"},
        combine="livemostrecent",
    ),
    MetricSpec(
        "emberq_config_version",
        "gauge",
        "Configuration version in force; at the API its own, at a host the host's.",
        {},
        combine="livemostrecent",
    ),
    MetricSpec(
        "emberq_config_push_losses_total",
        "counter",
        "Times the connection that tells of changed settings was lost or told nothing.",
        {"reason": "`cut`, or `silent` if a change had to be asked for"},
    ),
    MetricSpec(
        "emberq_redis_pool_connections",
        "gauge",
        "Open connections to Redis.",
        {"profile": "`client`, `worker`, `control`", "state": "`idle`, `in_use`"},
    ),
    MetricSpec(
        "emberq_db_pool_connections",
        "gauge",
        "Open connections to PostgreSQL.",
        {"state": "`idle`, `in_use`"},
    ),
    MetricSpec(
        "emberq_recoveries_total",
        "counter",
        "Deaths and losses that work was recovered from.",
        {"cause": "`horse_killed`, `worker_lost`, `host_lost`, `ticket_lost`"},
    ),
    MetricSpec(
        "emberq_recovery_seconds",
        "histogram",
        "Time from a loss to the work being possible again: a new horse ready.",
        {},
        buckets=_RECOVERY_BUCKETS,
    ),
    MetricSpec(
        "emberq_retries_total",
        "counter",
        "Database and Redis operations that met a transient error.",
        {
            "operation": "the function's name",
            "outcome": "`retried`, then `recovered` or `exhausted`; `not_idempotent` was not retried",
        },
    ),
    MetricSpec(
        "emberq_embedding_tokens_total", "counter", "Tokens that went through the embedding model.", {}
    ),
    MetricSpec(
        "emberq_embedding_cache_total",
        "counter",
        "Texts that needed a vector: `hit` had one already, `miss` was embedded.",
        {"result": "`hit`, `miss`"},
    ),
    MetricSpec(
        "emberq_embedding_queue_depth",
        "gauge",
        "Texts that wait for the model in the API.",
        {"queue": "`query`, `rerank`, `bulk`"},
    ),
    MetricSpec(
        "emberq_http_request_duration_seconds",
        "histogram",
        "Time from request to answer, by route template.",
        {"route": "as in `/openapi.json`", "method": "`GET`, …", "status": "`200`, …"},
        buckets=_REQUEST_BUCKETS,
    ),
    MetricSpec(
        "emberq_queue_depth",
        "gauge",
        "Jobs that are not over.",
        {"state": "`pending`, `queued`, `processing`"},
        kept_by=SERVICE,
    ),
    MetricSpec(
        "emberq_queue_oldest_seconds", "gauge", "Age of the longest waiting job.", {}, kept_by=SERVICE
    ),
    MetricSpec(
        "emberq_backlog_seconds",
        "gauge",
        "Estimated time until all that waits has run on the warm workers that live; scale on this.",
        {},
        kept_by=SERVICE,
    ),
)


def spec(name: str) -> MetricSpec:
    """Return a metric's entry.

    Raises:
        KeyError: If there is no such metric.
    """
    return _BY_NAME[name]


_BY_NAME = {entry.name: entry for entry in CATALOGUE}
