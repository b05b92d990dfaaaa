"""The catalogue of metrics: name, kind, labels and meaning of each one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Where values come from: counted by the processes of a host, or read from the database by the API.
HOST: Literal["host"] = "host"
SERVICE: Literal["service"] = "service"

#: Seconds, from a job that does nothing to the longest job that is allowed by default.
_JOB_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
#: Seconds, from an answer out of memory to an answer after the wait for PostgreSQL or Redis.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Seconds, from a horse whose successor was ready to a host whose lease had to expire.
_RECOVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 12.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: The name in Prometheus.
        kind: `counter`, `gauge` or `histogram`.
        help: What is counted or measured, in one sentence.
        labels: The labels, each with a description of its values.
        kept_by: `host` or `service`.
        combine: How the gauges of a host's living processes are combined: their sum, or the newest value.
        buckets: Upper bounds of a histogram's buckets, in seconds.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: dict[str, str]
    kept_by: Literal["host", "service"] = HOST
    combine: Literal["livesum", "livemostrecent"] = "livesum"
    buckets: tuple[float, ...] = ()


_STATES = "`completed`, `failed`, `cancelled`"
_CODE = "an error code, empty for a job that completed"

CATALOGUE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "emberq_jobs_total",
        "counter",
        "Jobs that have ended. The API counts all of them, from the database; a host counts its own.",
        {"state": _STATES, "error_code": _CODE},
    ),
    MetricSpec(
        "emberq_file_warnings_total",
        "counter",
        "Files that were read with a warning: parts of them are not in their text.",
        {"code": "a warning code"},
    ),
    MetricSpec(
        "emberq_job_duration_seconds",
        "histogram",
        "Duration of one attempt at a job.",
        {},
        buckets=_JOB_BUCKETS,
    ),
    MetricSpec(
        "emberq_stage_duration_seconds",
        "histogram",
        "Duration of one stage of an attempt.",
        {"stage": "`extracting`, `splitting`, `embedding`, `storing`"},
        buckets=_JOB_BUCKETS,
    ),
    MetricSpec(
        "emberq_workers",
        "gauge",
        "Worker slots. The API counts the slots of all hosts; a host counts its own.",
        {"state": "`idle` or `busy` at a host; `alive` or `lost` at the API"},
    ),
    MetricSpec(
        "emberq_horse_restarts_total",
        "counter",
        "Horses that were replaced.",
        {
            "reason": "`max_jobs`, `memory` or `leak`; `died` for an idle horse; `killed`, `stalled`, "
            "`process_limit`, `cpu_limit` or `requeued` for a horse with a job"
        },
    ),
    MetricSpec(
        "emberq_worker_private_memory_bytes",
        "gauge",
        "Private memory of all horses of the host, each measured after its last job.",
        {},
    ),
    MetricSpec(
        "emberq_resource_load_seconds",
        "gauge",
        "Duration of the newest load of a resource, without the resources that were loaded on its way.",
        {"resource": "the name of the function that `@resource` decorates"},
        combine="livemostrecent",
    ),
    MetricSpec(
        "emberq_config_version",
        "gauge",
        "Configuration version in force, at the API or at the host.",
        {},
        combine="livemostrecent",
    ),
    MetricSpec(
        "emberq_config_push_losses_total",
        "counter",
        "Losses of the connection that receives changes of the settings.",
        {},
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
        "Deaths and losses after which the work continued.",
        {"cause": "`horse_killed`, `worker_lost`, `host_lost`, `ticket_lost`"},
    ),
    MetricSpec(
        "emberq_refused_jobs_total",
        "counter",
        "RQ jobs that a worker's allow-list or the form of their fields kept from running.",
        {"reason": "`function`, `callback`, `payload`, `fields`, `keys`"},
    ),
    MetricSpec(
        "emberq_recovery_seconds",
        "histogram",
        "Time from the death of a horse until the next horse is ready.",
        {},
        buckets=_RECOVERY_BUCKETS,
    ),
    MetricSpec(
        "emberq_retries_total",
        "counter",
        "Database and Redis operations that met a transient error.",
        {
            "operation": "the name of the function",
            "outcome": "`retried`, then `recovered` or `exhausted`; `not_idempotent` if it was not retried",
        },
    ),
    MetricSpec("emberq_embedding_tokens_total", "counter", "Tokens that the models have processed.", {}),
    MetricSpec(
        "emberq_embedding_cache_total",
        "counter",
        "Texts whose vector was looked up.",
        {"result": "`hit` if the vector was known, `miss` if the text had to be embedded"},
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
        "Time from a request to its answer.",
        {"route": "the path as in `/openapi.json`", "method": "`GET`, …", "status": "`200`, …"},
        buckets=_REQUEST_BUCKETS,
    ),
    MetricSpec(
        "emberq_queue_depth",
        "gauge",
        "Jobs that have not ended.",
        {"state": "`pending`, `queued`, `processing`"},
        kept_by=SERVICE,
    ),
    MetricSpec(
        "emberq_queue_oldest_seconds", "gauge", "Age of the job that waits longest.", {}, kept_by=SERVICE
    ),
    MetricSpec(
        "emberq_backlog_seconds",
        "gauge",
        "Estimated time in which the living workers finish all waiting jobs; scale on this.",
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
