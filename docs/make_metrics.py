"""Write docs/reference/metrics.md from the catalogue: `python docs/make_metrics.py`."""

from __future__ import annotations

from pathlib import Path

from emberq.telemetry.catalogue import CATALOGUE, MetricSpec

PAGE = Path(__file__).parent / "reference" / "metrics.md"

HEAD = """# Metrics

All metrics are in Prometheus' text format. The API serves at `/metrics` the values of all hosts, read from
the database, and the values that its own host counted. If both have a metric of the same name, it serves the
database's. Each host with workers serves its own values on `EMBERQ_METRICS_PORT` (off if unset; 0 takes a
free port, which the log names). This works for any RQ worker:

    EMBERQ_METRICS_PORT=9108 rq worker -w emberq.WarmWorker my_queue

All workers of a host share `EMBERQ_METRICS_DIR`, and one of them serves for all. Use one directory per host
and per container, because the files in it are named by process ids. Counters and histograms keep the values
of processes that have died; gauges are those of living processes. Metrics that your jobs declare with
`prometheus_client` after the worker has started are served as well.

This page is written by `python docs/make_metrics.py`.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([HEAD, *map(_section, CATALOGUE)])


def _section(entry: MetricSpec) -> str:
    where = "API only, from the database" if entry.kept_by == "service" else "each host"
    lines = [f"## `{entry.name}`", "", f"{entry.help} ({entry.kind}; {where})", ""]
    lines += [f"- `{label}`: {values}" for label, values in entry.labels.items()]
    if entry.buckets:
        lines.append("- buckets: " + ", ".join(f"{bound:g}" for bound in entry.buckets))
    return "\n".join([*lines, ""] if lines[-1] else lines)


if __name__ == "__main__":
    PAGE.write_text(render())
