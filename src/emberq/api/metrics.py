"""Prometheus metrics of the API process; counts of jobs come from PostgreSQL, the truth."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from emberq.config.snapshot import get_worker_config
from emberq.errors import EmberqError
from emberq.store.leases import list_hosts
from emberq.store.services import Services
from emberq.store.stats import count_outcomes, read_stats
from emberq.store.tables import JobState
from emberq.telemetry.logs import get_logger

__all__ = ["REQUEST_SECONDS", "render_metrics"]

log = get_logger(__name__)

_process_registry = CollectorRegistry()

#: Time of HTTP requests, by route template, so that ids do not multiply the series.
REQUEST_SECONDS = Histogram(
    "emberq_http_request_duration_seconds",
    "Time from request to answer.",
    ["route", "method", "status"],
    registry=_process_registry,
)


class _JobCollector(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        with self._services.database.transaction() as connection:
            stats = read_stats(connection)
            outcomes = count_outcomes(connection)
            hosts = list_hosts(connection)
        jobs = CounterMetricFamily("emberq_jobs", "Jobs that ended.", labels=["state", "error_code"])
        for state, code, number in outcomes:
            if state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
                jobs.add_metric([state, code], number)
        yield jobs
        depth = GaugeMetricFamily("emberq_queue_depth", "Jobs that are not over.", labels=["state"])
        for state in (JobState.PENDING, JobState.QUEUED, JobState.PROCESSING):
            depth.add_metric([state], stats.jobs[state])
        yield depth
        yield GaugeMetricFamily(
            "emberq_queue_oldest_seconds", "Age of the longest waiting job.", value=stats.queue_oldest_seconds
        )
        workers = GaugeMetricFamily("emberq_workers", "Worker slots.", labels=["state"])
        for label, alive in (("alive", True), ("lost", False)):
            workers.add_metric([label], sum(host["workers"] for host in hosts if host["alive"] is alive))
        yield workers
        yield GaugeMetricFamily(
            "emberq_config_version",
            "Configuration version of this process.",
            value=get_worker_config().version,
        )


def render_metrics(services: Services) -> tuple[bytes, str]:
    """Return the metrics and their content type; those of a silent database are left out."""
    encode, content_type = choose_encoder("")
    body: bytes = encode(_process_registry)
    registry = CollectorRegistry(auto_describe=False)
    try:
        registry.register(_JobCollector(services))
        body += encode(registry)
    except EmberqError as exc:
        log.warning("metrics_incomplete", error_code=exc.code)
    return body, content_type
