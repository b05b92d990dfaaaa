"""Exponential back-off: how long to pause after each failure in a row."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Powers of the factor beyond this one are not computed: the longest pause is reached long before, and the
#: power stays a number.
_MAX_POWER = 100


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow by a factor with every failure in a row, up to a longest one.

    Attributes:
        first_seconds: The pause after the first failure.
        longest_seconds: No pause is longer.
        factor: By how much each pause is longer than the one before.
        jitter: The part of a pause, from 0 to 1, that is cut off at random, so that what failed together is
            not tried again together.
    """

    first_seconds: float
    longest_seconds: float
    factor: float = 2.0
    jitter: float = 0.0

    def pause_seconds(self, failures: int) -> float:
        """Return the pause before the next attempt, in seconds; 0 after no failure."""
        if failures < 1:
            return 0.0
        grown = self.first_seconds * self.factor ** min(failures - 1, _MAX_POWER)
        spread = random.uniform(1.0 - self.jitter, 1.0)  # noqa: S311 - nothing secret depends on it
        return min(grown, self.longest_seconds) * spread
