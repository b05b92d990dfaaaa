"""Write docs/reference/metrics.md from the catalogue: `python docs/make_metrics.py`."""

from __future__ import annotations

from pathlib import Path

from emberq.telemetry.catalogue import CATALOGUE, MetricSpec

PAGE = Path(__file__).parent / "reference" / "metrics.md"

HEAD = """# Metrics

In Prometheus' text format. The API serves at `/metrics` what the database tells of all hosts and what its
own host counted; of a name that both know, the database's. Each host that runs workers serves its own on
`EMBERQ_METRICS_PORT` (off if unset, 0 takes a free port, the log says which), for any RQ user too:

    EMBERQ_METRICS_PORT=9108 rq worker -w emberq.WarmWorker my_queue

Several workers of one host share `EMBERQ_METRICS_DIR`; one of them serves for all. Use one directory per
host (and per container): process ids tell the files apart. Counters and histograms go on counting over the
deaths of the processes that counted; gauges are those of the living. Metrics that your own jobs declare
with `prometheus_client` after the worker has started are served as well.
Made by `python docs/make_metrics.py`.
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
