"""Token buckets."""

from __future__ import annotations

from emberq.api.door.rate import BURST_SECONDS, TokenBuckets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(buckets: TokenBuckets, sender: str, *, tries: int, rate: float) -> int:
    return sum(buckets.take(sender, rate=rate) for _ in range(tries))


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    buckets = TokenBuckets(clock=clock)
    assert taken(buckets, "a", tries=100, rate=10) == 10 * BURST_SECONDS
    assert taken(buckets, "b", tries=5, rate=10) == 5
    clock.now += 0.5
    assert taken(buckets, "a", tries=100, rate=10) == 5
    clock.now += 1000
    assert taken(buckets, "a", tries=100, rate=10) == 10 * BURST_SECONDS


def test_a_rate_below_one_still_lets_single_requests_pass() -> None:
    clock = Clock()
    buckets = TokenBuckets(clock=clock)
    assert taken(buckets, "a", tries=10, rate=0.1) == 1
    clock.now += 10
    assert taken(buckets, "a", tries=10, rate=0.1) == 1


def test_zero_is_no_limit_and_memory_is_bounded() -> None:
    buckets = TokenBuckets(clock=Clock())
    assert taken(buckets, "a", tries=10_000, rate=0) == 10_000
    for number in range(20_000):
        buckets.take(number, rate=1)
    assert len(buckets._buckets) == 10_000
