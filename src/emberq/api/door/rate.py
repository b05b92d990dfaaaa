"""Token buckets: how many requests a key, a tenant or an address may send per second."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

#: A bucket holds this many seconds' worth of requests, so that clients may send many at once.
BURST_SECONDS: Final = 2.0
#: Buckets remembered; the least recently used are forgotten first.
_MOST_BUCKETS: Final = 10_000


class TokenBuckets:
    """One bucket for each sender; a sender that is not known has a full one.

    Invariant: in any time of `t` seconds a sender takes at most `rate * (t + BURST_SECONDS)` tokens, or one
    if that is more.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no senders.

        Args:
            clock: Returns seconds.
        """
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, sender: Hashable, *, rate: float) -> bool:
        """Take a token from a sender's bucket, if there is one.

        Args:
            sender: Whose bucket.
            rate: Tokens that it gets per second; 0 means that there is no limit.

        Returns:
            Whether there was one.
        """
        if not rate:
            return True
        now, most = self._clock(), max(1.0, rate * BURST_SECONDS)
        tokens, at = self._buckets.get(sender, (most, now))
        tokens = min(most, tokens + (now - at) * rate)
        is_taken = tokens >= 1
        self._buckets[sender] = (tokens - is_taken, now)
        self._buckets.move_to_end(sender)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return is_taken
