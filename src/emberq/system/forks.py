"""What a forked process does first: forget the connections it inherited, close what only its parent needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Protocol, TypeVar
from weakref import WeakSet


class Closable(Protocol):
    """A socket or file: closing a forked copy of it leaves the original open."""

    def close(self) -> None:
        """Close it."""


T = TypeVar("T", bound=Closable)

_functions: list[Callable[[], None]] = []
_closed_in_children: WeakSet[Closable] = WeakSet()
_kept_for_horses: WeakSet[Closable] = WeakSet()


def close_in_children(thing: T) -> T:
    """Close a socket or file in every process that this one forks from now on; returns it."""
    _closed_in_children.add(thing)
    return thing


def keep_for_horses(thing: T) -> T:
    """Leave a socket or file open in horses, and close it in the preloader's other children; returns it."""
    _kept_for_horses.add(thing)
    return thing


def close_what_horses_keep() -> None:
    """Close it; every child of the preloader begins with this, unless it is a horse."""
    _close_all(_kept_for_horses)


def _close_inherited() -> None:
    _close_all(_closed_in_children)


def _close_all(things: WeakSet[Closable]) -> None:
    for thing in list(things):
        with contextlib.suppress(OSError):
            thing.close()
    things.clear()


os.register_at_fork(after_in_child=_close_inherited)


def after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Register a function that every new horse calls first; usable as a decorator."""
    _functions.append(function)
    return function


def run_after_fork() -> None:
    """Call the registered functions; every new horse begins with this."""
    for function in _functions:
        function()
