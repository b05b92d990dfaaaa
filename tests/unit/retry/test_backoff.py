from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from emberq.retry.backoff import Backoff

seconds = st.floats(0.001, 1000.0)
backoffs = st.builds(
    Backoff,
    first_seconds=seconds,
    longest_seconds=seconds,
    factor=st.floats(1.5, 10.0),
    jitter=st.floats(0.0, 1.0),
)
many = st.integers(1, 100_000)


@given(backoff=backoffs, failures=st.integers(-3, 0))
def test_without_a_failure_there_is_no_pause(backoff: Backoff, failures: int) -> None:
    assert backoff.pause_seconds(failures) == 0.0


@given(backoff=backoffs, failures=many)
def test_no_pause_is_longer_than_the_longest_nor_shorter_than_the_jitter_allows(
    backoff: Backoff, failures: int
) -> None:
    pause = backoff.pause_seconds(failures)
    whole = Backoff(backoff.first_seconds, backoff.longest_seconds, backoff.factor).pause_seconds(failures)
    assert whole * (1.0 - backoff.jitter) <= pause <= whole <= backoff.longest_seconds


@given(first=seconds, longest=seconds, factor=st.floats(1.5, 10.0), failures=st.integers(1, 50))
def test_each_pause_is_the_one_before_times_the_factor_until_the_longest(
    first: float, longest: float, factor: float, failures: int
) -> None:
    backoff = Backoff(first, longest, factor)
    assert backoff.pause_seconds(1) == min(first, longest)
    grown = min(backoff.pause_seconds(failures) * factor, longest)
    assert math.isclose(backoff.pause_seconds(failures + 1), grown, rel_tol=1e-9)


@given(first=seconds, longest=seconds, factor=st.floats(1.5, 10.0))
def test_the_longest_pause_is_reached(first: float, longest: float, factor: float) -> None:
    assert Backoff(first, longest, factor).pause_seconds(100_000) == longest


def test_what_failed_together_is_tried_apart() -> None:
    pauses = {Backoff(1.0, 60.0, jitter=0.5).pause_seconds(100) for _ in range(100)}
    assert len(pauses) == 100
    assert max(pauses) - min(pauses) > 10
