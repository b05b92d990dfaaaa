"""What a process does first after a fork, e.g. forget the connections it inherited."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["after_fork", "run_after_fork"]

_functions: list[Callable[[], None]] = []


def after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Register what every new horse does first; returns the function, so that it can be a decorator."""
    _functions.append(function)
    return function


def run_after_fork() -> None:
    """Call what was registered; the body of every new horse begins with it."""
    for function in _functions:
        function()
