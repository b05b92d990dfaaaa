from __future__ import annotations

import pytest

from emberq.errors import (
    DatabaseUnavailable,
    EmberqError,
    ExtractionCrashed,
    JobTimeout,
    MemoryLimitExceeded,
    WorkerLost,
    all_errors,
)
from emberq.store.jobs.finish import retry_pause_seconds


def pauses(error: EmberqError, attempt: int = 1) -> list[float]:
    return [retry_pause_seconds(error, attempt=attempt, retry_delay_seconds=60) for _ in range(200)]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (WorkerLost(), 0.0),
        (DatabaseUnavailable(), 6.0),
        (ExtractionCrashed(), 60.0),
        (JobTimeout(), 60.0),
        (MemoryLimitExceeded(), 120.0),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_each_class_of_error_has_its_pause(error: EmberqError, seconds: float) -> None:
    found = pauses(error)
    assert 0.8 * seconds <= min(found) <= max(found) <= seconds


def test_the_pause_doubles_and_ends_at_an_hour() -> None:
    for attempt, seconds in ((2, 120.0), (3, 240.0), (4, 480.0)):
        found = pauses(JobTimeout(), attempt)
        assert 0.8 * seconds <= min(found) <= max(found) <= seconds
    for attempt in (20, 5000):
        assert min(pauses(JobTimeout(), attempt)) >= 0.8 * 3600
        assert max(pauses(JobTimeout(), attempt)) <= 3600


def test_what_failed_together_does_not_return_together() -> None:
    found = pauses(ExtractionCrashed())
    assert max(found) - min(found) > 6


def test_a_lost_worker_alone_is_replaced_without_a_pause() -> None:
    at_once = {code for code, error in all_errors().items() if error.retryable and error.retry_pause == 0}
    assert at_once == {WorkerLost.code}
