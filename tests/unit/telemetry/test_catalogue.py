from __future__ import annotations

import runpy

from emberq.telemetry.catalogue import CATALOGUE
from tests.harness.paths import DOCS


def test_the_reference_page_is_up_to_date() -> None:
    generator = runpy.run_path(str(DOCS / "make_metrics.py"))
    assert generator["render"]() == (DOCS / "reference" / "metrics.md").read_text()


def test_names_follow_prometheus_conventions() -> None:
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    for entry in CATALOGUE:
        assert entry.name.startswith("emberq_")
        assert entry.name.endswith("_total") == (entry.kind == "counter")
        assert bool(entry.buckets) == (entry.kind == "histogram")
        assert list(entry.buckets) == sorted(entry.buckets)
