"""Filling a queue: the same jobs in the same order for every peer."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["fill"]


def fill(mark: Callable[[str], object], noop: Callable[[], object]) -> None:
    """Queue a mark, so many no-ops and another mark, as the command line says."""
    count, first, last = sys.argv[1:]
    mark(first)
    for _ in range(int(count)):
        noop()
    mark(last)
