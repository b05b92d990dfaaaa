"""The campaign's checker finds what it is there to find: hand-made histories, each broken in one way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.campaign.checker import Finding, check
from tests.chaos.campaign.history import History, Operation, read_history

LINES = 3
WHOLE = [1, 2, 3]


class Life:
    """A history in the making, and the end state that fits it: each step takes a second."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.now = 0.0
        self.state: dict[str, Any] = {"files": [], "jobs": [], "found": {}}
        self.state["database"] = {"versions": [], "chunks": []}

    def step(self, kind: str, asked: dict[str, Any], status: int | None, **answer: Any) -> Operation:
        self.now += 1
        number = len(self.operations) + 1
        one = Operation(number, kind, "a", self.now, asked)
        if status is not None:
            one = replace(one, answered_at=self.now + 0.5, status=status, answer=answer)
        self.operations.append(one)
        return one

    def upload(self, edition: int, *, job: str | None = None) -> None:
        job = job or f"job{edition}"
        self.step("upload", {"edition": edition, "lines": LINES}, 202, job=job, file="f")

    def search(self, seen: dict[str, list[int]]) -> Operation:
        return self.step("search", {"mode": "keyword"}, 200, seen={"a": seen} if seen else {})

    def end(self, edition: int, *, state: str = "completed", shown: int | None = None) -> None:
        """Make the end state fit: the job of an edition in a state, and an edition shown, if any."""
        code = None if state == "completed" else {"code": state}
        job = {"id": f"job{edition}", "file_name": "a.txt", "state": state, "attempt": 1, "max_attempts": 3}
        self.state["jobs"].append({**job, "error": code, "quarantined": False})
        self.state["files"].append({"external_id": "a"})
        shown = edition if shown is None else shown
        self.state["database"]["versions"].append(
            ["a", "f", False, shown or None, edition, f"sha{edition}", 1]
        )
        self.show({str(shown): WHOLE} if shown else {}, version=shown)

    def show(self, found: dict[str, list[int]], *, version: int) -> None:
        self.state["found"]["a"] = found
        self.state["database"]["chunks"] = [["a", "f", version, found]] if found else []

    def findings(self) -> list[Finding]:
        return check(self.operations, self.state).findings

    def kinds(self) -> set[str]:
        return {finding.kind for finding in self.findings()}


@pytest.fixture
def life() -> Life:
    return Life()


def test_a_good_life_has_no_findings(life: Life) -> None:
    life.upload(1)
    life.search({})
    life.search({"1": WHOLE})
    life.upload(2)
    life.search({"1": WHOLE})
    life.step("job", {"edition": 2, "job_id": "job2"}, 200, state="completed")
    life.search({"2": WHOLE})
    life.end(2)
    assert life.findings() == []


def test_a_completed_file_that_no_search_finds_is_lost(life: Life) -> None:
    life.upload(1)
    life.end(1)
    life.show({}, version=1)
    assert life.kinds() == {"lost"}


def test_an_acknowledged_file_without_a_job_is_lost(life: Life) -> None:
    life.upload(1)
    assert life.kinds() == {"lost"}


def test_a_cancellation_that_was_not_requested_is_a_loss(life: Life) -> None:
    life.upload(1)
    life.end(1, state="cancelled", shown=0)
    assert life.kinds() == {"lost"}
    life.step("cancel", {"edition": 1, "job_id": "job1"}, 202)
    assert life.kinds() == set()


def test_a_failure_with_a_reason_is_no_loss_and_one_without_is(life: Life) -> None:
    life.upload(1)
    life.end(1, state="failed", shown=0)
    assert life.kinds() == set()
    life.state["jobs"][0]["error"] = None
    assert life.kinds() == {"lost"}


def test_an_upload_that_was_never_acknowledged_may_be_gone(life: Life) -> None:
    life.step("upload", {"edition": 1, "lines": LINES}, None)
    assert life.findings() == []


@pytest.mark.parametrize("kind", ["search", "job"])
def test_what_was_seen_once_must_be_seen_again(life: Life, kind: str) -> None:
    life.upload(1)
    if kind == "search":
        life.search({"1": WHOLE})
    else:
        life.step("job", {"edition": 1, "job_id": "job1"}, 200, state="completed")
    life.search({})
    life.end(1)
    assert life.kinds() == {"lost"}


def test_a_search_that_was_under_way_may_miss_what_became_visible_meanwhile(life: Life) -> None:
    life.upload(1)
    early = life.search({})
    life.search({"1": WHOLE})
    life.operations[1] = replace(early, answered_at=life.now + 5)
    life.end(1)
    assert life.findings() == []


def test_a_line_that_is_there_twice_is_a_duplicate(life: Life) -> None:
    life.upload(1)
    life.end(1)
    life.show({"1": [1, 1, 2, 3]}, version=1)
    assert life.kinds() == {"duplicated"}


def test_what_a_cancelled_job_shows_is_found(life: Life) -> None:
    life.upload(1)
    life.step("cancel", {"edition": 1, "job_id": "job1"}, 202)
    life.end(1, state="cancelled", shown=1)
    assert life.kinds() == {"mixed"}


def test_two_jobs_for_one_upload_are_a_duplicate(life: Life) -> None:
    life.upload(1)
    life.upload(1, job="job1b")
    life.end(1)
    assert life.kinds() == {"duplicated"}


def test_a_name_that_is_listed_twice_is_a_duplicate(life: Life) -> None:
    life.upload(1)
    life.end(1)
    life.state["files"].append({"external_id": "a"})
    assert life.kinds() == {"duplicated"}


def test_rows_that_no_search_shows_are_found(life: Life) -> None:
    life.upload(1)
    life.end(1)
    life.state["database"]["chunks"].append(["a", "f", 0, {"1": [1]}])
    assert "duplicated" in life.kinds()


def test_a_job_that_does_not_end_is_stuck(life: Life) -> None:
    life.upload(1)
    life.end(1, state="processing", shown=0)
    assert life.kinds() == {"stuck"}


def test_an_attempt_too_many_is_found(life: Life) -> None:
    life.upload(1)
    life.end(1)
    life.state["jobs"][0]["attempt"] = 4
    assert life.kinds() == {"overrun"}


def test_two_editions_in_one_answer_are_a_mixture(life: Life) -> None:
    life.upload(1)
    life.upload(2)
    life.search({"1": [3], "2": [1, 2]})
    life.end(2)
    assert "mixed" in life.kinds()


def test_half_a_file_is_a_mixture(life: Life) -> None:
    life.upload(1)
    life.search({"1": [1, 3]})
    life.end(1)
    assert life.kinds() == {"mixed"}


def test_an_older_edition_after_a_newer_one_is_a_mixture(life: Life) -> None:
    life.upload(1)
    life.upload(2)
    life.search({"2": WHOLE})
    life.search({"1": WHOLE})
    life.end(2)
    assert life.kinds() == {"mixed"}


def test_a_deleted_file_that_is_seen_has_come_back(life: Life) -> None:
    life.upload(1)
    life.search({"1": WHOLE})
    life.step("delete", {"edition": 1}, 204)
    life.search({"1": WHOLE})
    assert life.kinds() == {"resurrected"}


def test_a_search_beside_a_deletion_may_see_the_file_or_not(life: Life) -> None:
    life.upload(1)
    life.search({"1": WHOLE})
    deletion = life.step("delete", {"edition": 1}, 204)
    life.search({"1": WHOLE})
    life.search({})
    life.operations[2] = replace(deletion, answered_at=life.now + 5)
    assert life.findings() == []


def test_a_deleted_file_that_is_listed_or_found_in_the_end_has_come_back(life: Life) -> None:
    life.upload(1)
    life.step("delete", {"edition": 1}, 204)
    life.end(1)
    assert life.kinds() == {"resurrected"}


def test_a_new_edition_after_a_deletion_is_a_file_again(life: Life) -> None:
    life.upload(1)
    life.step("delete", {"edition": 1}, 404)
    life.upload(2)
    life.search({"2": WHOLE})
    life.end(2)
    assert life.findings() == []


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    with History(tmp_path / "history") as history:
        first = history.ask("upload", "a", edition=1, lines=3)
        history.ask("delete", "b", edition=2)
        history.note("action", action={"what": "kill"})
        history.answer(first, 202, job="j", file="f")
    upload, delete = read_history(tmp_path / "history")
    assert (upload.kind, upload.asked["lines"], upload.answer["job"]) == ("upload", 3, "j")
    assert upload.is_acknowledged
    assert not delete.is_acknowledged
    assert upload.answered_at is not None
    assert upload.asked_at < upload.answered_at
