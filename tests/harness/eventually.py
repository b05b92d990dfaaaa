"""Waiting for something to come true, with one limit that grows with the slowness of the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["LIMIT_SECONDS", "TooLate", "came_true", "eventually", "scaled"]

T = TypeVar("T")

#: How many times slower than a quiet machine with two cores this one is; the environment can say so.
_SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
#: Pause between two looks: short at first, then longer, so that waiting costs a busy machine little.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05


def scaled(seconds: float) -> float:
    """Return a time limit for this machine."""
    return seconds * _SLOWNESS


#: Default time limit. Only a failure takes so long: a wait ends as soon as its condition holds.
LIMIT_SECONDS = scaled(90.0)


class TooLate(AssertionError):
    """What was waited for did not come true within its time limit."""


def eventually(
    look: Callable[[], T],
    until: Callable[[T], object] = bool,
    *,
    seconds: float = LIMIT_SECONDS,
    despite: type[Exception] | tuple[type[Exception], ...] = (),
    told: Callable[[], str] = str,
    longest_pause: float = _LONGEST_PAUSE_SECONDS,
) -> T:
    """Call `look` until its result is accepted, and return that result.

    Args:
        look: Returns the present state.
        until: Accepts a result; by default each true one is accepted.
        seconds: Time limit.
        despite: Exceptions of `look` that mean "not yet".
        told: Returns what a failure should say besides, such as a log.
        longest_pause: Seconds between two looks at most.

    Raises:
        TooLate: If the limit passes; the message has the last result.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        # Once more after the deadline: this process may have been the one that stood still.
        is_last = time.monotonic() >= deadline
        try:
            found = look()
        except despite as exc:
            last = repr(exc)
        else:
            if until(found):
                return found
            last = repr(found)
        if is_last:
            raise TooLate(f"Not so within {seconds:g} s; last seen: {last}\n{told()}")
        time.sleep(pause)
        pause = min(pause * 1.5, longest_pause)


def came_true(look: Callable[[], object], *, seconds: float) -> bool:
    """Wait until `look` returns something true, at most so long, and tell whether it did."""
    try:
        eventually(look, seconds=seconds)
    except TooLate:
        return False
    return True
