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


def test_no_label_names_a_tenant_or_what_a_tenant_has() -> None:
    labels = {label for entry in CATALOGUE for label in entry.labels}
    assert not labels & {"tenant", "key", "collection", "file", "name", "job", "ticket"}
