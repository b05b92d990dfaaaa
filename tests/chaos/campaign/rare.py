"""Rare states: what the logs show to have happened at least once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.campaign.witness import Event

__all__ = ["RARE_STATES", "count_rare_states"]

#: What a full campaign must have reached, by the words of the report.
RARE_STATES = (
    "lease lost in mid-commit",
    "duplicate ticket delivered",
    "quarantined",
    "reaped while alive",
    "ticket lost and enqueued again",
)


def count_rare_states(events: Iterable[Event], jobs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how often each rare state was reached.

    A job was reaped while its worker lived if that worker came back later to find its lease lost; it was
    in the middle of its commit if the last stage it had begun was storing.
    """
    counts = dict.fromkeys(RARE_STATES, 0)
    reaped: set[str] = set()
    for event in events:
        if event.name == "job_reaped":
            reaped.add(event.fields["job"])
        elif event.name == "lease_lost":
            counts["reaped while alive"] += event.fields["job"] in reaped
            counts["lease lost in mid-commit"] += event.fields.get("stage") == "storing"
        elif event.name == "ticket_stale":
            counts["duplicate ticket delivered"] += 1
        elif event.name == "tickets_missing":
            counts["ticket lost and enqueued again"] += event.fields["jobs"]
    counts["quarantined"] = sum(bool(job["quarantined"]) for job in jobs)
    return counts
