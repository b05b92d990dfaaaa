"""Functions that a forked process calls first, e.g. to forget the connections it inherited."""

from __future__ import annotations

from collections.abc import Callable

_functions: list[Callable[[], None]] = []


def after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Register a function that every new horse calls first; usable as a decorator."""
    _functions.append(function)
    return function


def run_after_fork() -> None:
    """Call the registered functions; every new horse begins with this."""
    for function in _functions:
        function()
