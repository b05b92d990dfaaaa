from __future__ import annotations

from emberq.telemetry.catalogue import CATALOGUE


def test_names_follow_prometheus_conventions() -> None:
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    for entry in CATALOGUE:
        assert entry.name.startswith("emberq_")
        assert entry.name.endswith("_total") == (entry.kind == "counter")
        assert bool(entry.buckets) == (entry.kind == "histogram")
        assert list(entry.buckets) == sorted(entry.buckets)
