"""The checker: what was promised, held against what clients saw and what is there in the end.

It knows the history and the end state, and nothing of how the system works. Each promise is one function;
a file has one writer, so what it may hold at any moment follows from that writer's operations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.chaos.campaign.history import Operation
from tests.chaos.campaign.story import EVER, READS, Story, read_stories

__all__ = ["Finding", "Verdict", "check"]

Kind = Literal["lost", "duplicated", "stuck", "mixed", "resurrected", "overrun"]
Found = Mapping[str, list[int]]
_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: its kind, the file, and what was seen."""

    kind: Kind
    file: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings; without any the system has held what it promised."""

    findings: list[Finding]

    def count(self, *kinds: Kind) -> int:
        """Return the number of files with findings of these kinds."""
        return len({finding.file for finding in self.findings if finding.kind in kinds})


def check(history: Iterable[Operation], state: Mapping[str, Any]) -> Verdict:
    """Return every promise that was broken.

    Args:
        history: The operations of all clients.
        state: Files, jobs, what searches find by name, and database rows, when all was quiet.
    """
    operations = list(history)
    stories = read_stories(operations)
    findings = [
        *_check_reads(stories, operations),
        *_check_ends(stories, state),
        *_check_jobs(state),
        *_check_files(stories, state),
        *_check_rows(stories, state),
    ]
    return Verdict(sorted(set(findings), key=lambda one: (one.kind, one.file, one.what)))


def _check_reads(stories: Mapping[str, Story], operations: list[Operation]) -> Iterator[Finding]:
    """Readers see one edition of a file, whole, never an older one again, and none that was deleted."""
    for one in operations:
        if one.kind not in READS or one.answered_at is None:
            continue
        for file, seen in one.answer["seen"].items():
            is_whole = one.kind == "text" or (one.asked.get("mode") == "keyword" and file == one.file)
            if file not in stories:
                yield Finding("mixed", file, f"operation {one.number} saw a file that was never uploaded")
                continue
            yield from _check_seen(stories[file], seen, one, is_whole=is_whole)
        if one.file in stories and not one.answer["seen"].get(one.file) and _names_only(one):
            story = stories[one.file]
            if story.known_visible(one.asked_at) > story.dead_perhaps(one.answered_at):
                yield Finding("lost", one.file, f"operation {one.number} did not see it, an earlier one did")


def _names_only(one: Operation) -> bool:
    return one.kind == "text" or one.asked.get("mode") == "keyword"


def _check_seen(story: Story, seen: Found, one: Operation, *, is_whole: bool) -> Iterator[Finding]:
    where = f"operation {one.number}"
    yield from _check_content(story, seen, where, is_whole=is_whole)
    edition = min(map(int, seen))
    if edition <= story.dead_for_sure(one.asked_at):
        yield Finding("resurrected", story.file, f"{where} saw edition {edition} after its deletion")
    elif edition < story.known_visible(one.asked_at):
        newer = story.known_visible(one.asked_at)
        yield Finding("mixed", story.file, f"{where} saw edition {edition} after {newer} had been seen")


def _check_content(story: Story, seen: Found, where: str, *, is_whole: bool) -> Iterator[Finding]:
    if len(seen) > 1:
        yield Finding("mixed", story.file, f"{where} saw editions {sorted(map(int, seen))} at once")
    for edition, numbers in seen.items():
        expected = story.lines(int(edition))
        if not expected:
            yield Finding("mixed", story.file, f"{where} saw edition {edition}, which was never uploaded")
        elif len(numbers) > len(set(numbers)):
            yield Finding("duplicated", story.file, f"{where} saw lines of edition {edition} twice")
        elif is_whole and sorted(numbers) != expected and len(seen) == 1:
            yield Finding(
                "mixed",
                story.file,
                f"{where} saw {len(numbers)} of {len(expected)} lines of edition {edition}",
            )


def _check_ends(stories: Mapping[str, Story], state: Mapping[str, Any]) -> Iterator[Finding]:
    """What was acknowledged last is searchable, or its job says in words why not."""
    jobs = {job["id"]: job for job in state["jobs"]}
    for story in stories.values():
        found: Found = state["found"].get(story.file, {})
        yield from _check_content(story, found, "the last search", is_whole=True)
        acknowledged = [one for one in story.uploads if one.is_acknowledged]
        last = max((one.asked["edition"] for one in acknowledged), default=0)
        if last <= story.dead_perhaps(EVER):
            if found and max(map(int, found)) <= story.dead_for_sure(EVER):
                yield Finding("resurrected", story.file, "the last search found it after its deletion")
            continue
        newest = next(one for one in acknowledged if one.asked["edition"] == last)
        yield from _check_end(story, newest, jobs.get(newest.answer["job"]), found)


def _check_end(
    story: Story, newest: Operation, job: Mapping[str, Any] | None, found: Found
) -> Iterator[Finding]:
    edition = newest.asked["edition"]
    if job is None:
        yield Finding("lost", story.file, f"the job of edition {edition} is gone")
    elif job["state"] == "completed":
        if str(edition) not in found:
            yield Finding("lost", story.file, f"edition {edition} is completed, but no search finds it")
    elif job["state"] == "failed":
        if not (job["error"] or {}).get("code"):
            yield Finding("lost", story.file, f"edition {edition} failed without a reason")
    elif job["state"] == "cancelled":
        asked = any(one.kind == "cancel" and one.asked["job_id"] == job["id"] for one in story.operations)
        if not asked:
            yield Finding("lost", story.file, f"edition {edition} was cancelled, and nobody asked for it")
    if job is not None and job["state"] in ("failed", "cancelled") and str(edition) in found:
        yield Finding("mixed", story.file, f"edition {edition} is found, and its job is {job['state']}")
    known = story.known_visible(EVER)
    if known > story.dead_perhaps(EVER) and (not found or max(map(int, found)) < known):
        yield Finding(
            "lost", story.file, f"edition {known} had been seen, the last search finds {list(found)}"
        )


def _check_jobs(state: Mapping[str, Any]) -> Iterator[Finding]:
    """Every job comes to an end, within its attempts."""
    for job in state["jobs"]:
        if job["state"] not in _ENDED:
            why = job.get("waiting_reason") or job.get("stage")
            yield Finding("stuck", job["file_name"], f"job {job['id']} is {job['state']} ({why})")
        if job["attempt"] > job["max_attempts"]:
            yield Finding("overrun", job["file_name"], f"job {job['id']} had {job['attempt']} attempts")


def _check_files(stories: Mapping[str, Story], state: Mapping[str, Any]) -> Iterator[Finding]:
    """A name is listed once, if it is to be there, and one upload has one job."""
    listed = Counter(file["external_id"] for file in state["files"])
    for name, times in listed.items():
        if times > 1:
            yield Finding("duplicated", name, f"it is listed {times} times")
    for story in stories.values():
        jobs = story.jobs()
        for edition, ids in jobs.items():
            if len(ids) > 1:
                yield Finding("duplicated", story.file, f"edition {edition} was given {len(ids)} jobs")
        acknowledged = max(jobs, default=0)
        if acknowledged > story.dead_perhaps(EVER) and not listed[story.file]:
            yield Finding("lost", story.file, "it is not listed")
        asked = max((one.asked["edition"] for one in story.uploads), default=0)
        if asked <= story.dead_for_sure(EVER) and listed[story.file]:
            yield Finding("resurrected", story.file, "it is listed after its deletion")


def _check_rows(stories: Mapping[str, Story], state: Mapping[str, Any]) -> Iterator[Finding]:
    """The database agrees: one job a version, chunks of visible versions only, what searches find."""
    visible: dict[str, int | None] = {}
    contents: dict[str, set[str]] = defaultdict(set)
    for name, file_id, is_deleted, shown, version, sha256, jobs in state["database"]["versions"]:
        visible[file_id] = None if is_deleted else shown
        if jobs > 1:
            yield Finding("duplicated", name, f"version {version} has {jobs} jobs")
        if sha256 in contents[file_id]:
            yield Finding("duplicated", name, f"version {version} repeats an earlier one")
        contents[file_id].add(sha256)
    stored: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for name, file_id, version, lines in state["database"]["chunks"]:
        if version != visible[file_id]:
            yield Finding(
                "duplicated", name, f"chunks of version {version} are there, {visible[file_id]} is visible"
            )
        for edition, numbers in lines.items():
            stored[name].setdefault(edition, []).extend(numbers)
    for name in stories:
        found = state["found"].get(name, {})
        if _normal(stored.get(name, {})) != _normal(found):
            yield Finding("lost", name, f"rows hold {stored.get(name, {})}, searches find {dict(found)}")


def _normal(found: Found) -> dict[str, list[int]]:
    return {edition: sorted(numbers) for edition, numbers in found.items() if numbers}
