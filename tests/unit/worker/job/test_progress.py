from __future__ import annotations

import pytest

from emberq.errors import Cancelled
from emberq.worker.job import progress as module
from emberq.worker.job.progress import progress, progress_to, report_all_progress_to, report_waiting

Report = tuple[int, int, str | None]


@pytest.fixture
def reports_of_process(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    monkeypatch.setattr(module, "_process_sink", None)
    reports: list[Report] = []
    report_all_progress_to(lambda *report: reports.append(report))
    return reports


def test_without_a_listener_a_report_does_nothing() -> None:
    progress(1, 2, stage="embedding")
    report_waiting()


def test_a_report_goes_to_the_listener_of_the_job_and_to_that_of_the_process(
    reports_of_process: list[Report],
) -> None:
    reports: list[Report] = []
    with progress_to(lambda *report: reports.append(report)):
        progress(1, 2, stage="embedding")
    progress(2, 2)
    assert reports == [(1, 2, "embedding")]
    assert reports_of_process == [(1, 2, "embedding"), (2, 2, None)]


def test_waiting_is_reported_to_the_process_only(reports_of_process: list[Report]) -> None:
    reports: list[Report] = []
    with progress_to(lambda *report: reports.append(report)):
        report_waiting()
    assert (reports, reports_of_process) == ([], [(0, 0, None)])


def test_a_listener_may_cancel_the_job() -> None:
    def refuse(*_report: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled), progress_to(refuse):
        progress(1, 2)
