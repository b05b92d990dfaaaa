"""One file's story: what its only writer did, in order, and what anybody saw of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

from tests.chaos.campaign.history import Operation

__all__ = ["EVER", "READS", "Story", "read_stories"]

#: Operations that change nothing.
READS = ("search", "text")
#: Later than every operation.
EVER = float("inf")


@dataclass(slots=True)
class Story:
    """One file.

    Attributes:
        file: Its name.
        operations: What was asked about it, reads left out, in order.
        known_at: When a newer edition than before was first known to be visible.
        known: Those editions.
    """

    file: str
    operations: list[Operation] = field(default_factory=list)
    known_at: list[float] = field(default_factory=list)
    known: list[int] = field(default_factory=list)

    @property
    def uploads(self) -> list[Operation]:
        return [one for one in self.operations if one.kind == "upload"]

    @property
    def deletes(self) -> list[Operation]:
        return [one for one in self.operations if one.kind == "delete"]

    def lines(self, edition: int) -> list[int]:
        """Return the line numbers an edition has; none if it was never asked for."""
        totals = [one.asked["lines"] for one in self.uploads if one.asked["edition"] == edition]
        return list(range(1, totals[0] + 1)) if totals else []

    def jobs(self) -> dict[int, set[str]]:
        """Return the jobs that uploads of each edition were answered with."""
        jobs: dict[int, set[str]] = defaultdict(set)
        for one in self.uploads:
            if one.is_acknowledged:
                jobs[one.asked["edition"]].add(one.answer["job"])
        return jobs

    def note_visible(self, at: float, edition: int) -> None:
        if not self.known or edition > self.known[-1]:
            self.known_at.append(at)
            self.known.append(edition)

    def known_visible(self, before: float) -> int:
        """Return the newest edition that was known to be visible before a moment."""
        index = bisect_left(self.known_at, before)
        return self.known[index - 1] if index else 0

    def dead_for_sure(self, before: float) -> int:
        """Return the newest edition whose deletion was acknowledged before a moment."""
        return max(
            (one.asked["edition"] for one in self.deletes if _answered(one) and _end(one) < before), default=0
        )

    def dead_perhaps(self, before: float) -> int:
        """Return the newest edition whose deletion was asked for before a moment."""
        return max((one.asked["edition"] for one in self.deletes if one.asked_at < before), default=0)


def read_stories(operations: list[Operation]) -> dict[str, Story]:
    stories: dict[str, Story] = {}
    for one in operations:
        if one.kind not in READS:
            stories.setdefault(one.file, Story(one.file)).operations.append(one)
    visible: list[tuple[float, str, int]] = []
    for one in operations:
        if one.answered_at is None:
            continue
        if one.kind == "job" and one.answer["state"] == "completed":
            visible.append((one.answered_at, one.file, one.asked["edition"]))
        elif one.kind in READS:
            visible += [
                (one.answered_at, file, max(map(int, seen)))
                for file, seen in one.answer["seen"].items()
                if seen
            ]
    for at, file, edition in sorted(visible):
        if file in stories:
            stories[file].note_visible(at, edition)
    return stories


def _answered(one: Operation) -> bool:
    # A second request for a deletion whose answer was lost is told that there is nothing to delete.
    return one.is_acknowledged or one.status == 404


def _end(one: Operation) -> float:
    return EVER if one.answered_at is None else one.answered_at
