"""`/metrics` of the API: metrics of the whole service from PostgreSQL, and those of this host."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from emberq.config.current import get_worker_config
from emberq.errors import EmberqError
from emberq.store.admin.hosts import list_hosts
from emberq.store.jobs.stats import count_outcomes, read_queue
from emberq.store.schema.job_states import JobState
from emberq.store.services import Services
from emberq.telemetry.catalogue import spec
from emberq.telemetry.endpoint import CONTENT_TYPE
from emberq.telemetry.exposition import collect_host, exposition
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)


def render_metrics(services: Services) -> tuple[bytes, str]:
    """Return the metrics and their content type; without the database, only those of this host."""
    try:
        of_service = _collect_service(services)
    except EmberqError as exc:
        log.warning("metrics_incomplete", error_code=exc.code)
        of_service = []
    # The database counts all hosts, so its figures replace those of this host.
    known = {family.name for family in of_service}
    families = [*of_service, *(family for family in collect_host() if family.name not in known)]
    return exposition(families), CONTENT_TYPE


def _collect_service(services: Services) -> list[Metric]:
    with services.database.system_transaction() as connection:
        queue = read_queue(connection)
        outcomes = count_outcomes(connection)
        hosts = list_hosts(connection)
    waiting = (JobState.PENDING, JobState.QUEUED, JobState.PROCESSING)
    slots = {
        label: sum(host["workers"] for host in hosts if host["alive"] is alive)
        for label, alive in (("alive", True), ("lost", False))
    }
    return [
        _family("emberq_jobs_total", {(state, code): n for state, code, n in outcomes}),
        _family("emberq_queue_depth", {(state,): queue.depth[state] for state in waiting}),
        _family("emberq_queue_oldest_seconds", {(): queue.oldest_seconds}),
        _family("emberq_backlog_seconds", {(): queue.backlog_seconds}),
        _family("emberq_workers", {(label,): number for label, number in slots.items()}),
        _family("emberq_config_version", {(): get_worker_config().version}),
    ]


def _family(name: str, values: dict[tuple[str, ...], float]) -> Metric:
    entry = spec(name)
    kind = CounterMetricFamily if entry.kind == "counter" else GaugeMetricFamily
    family = kind(name.removesuffix("_total"), entry.help, labels=list(entry.labels))
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
