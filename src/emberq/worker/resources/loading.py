"""How a value is made by its function, and what making it takes."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Self, TypeVar, cast

from emberq.system.memory import private_memory_bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """What loading one resource took, without the resources that were loaded on its way.

    Attributes:
        name: The resource's function name.
        pid: The process that loaded it.
        seconds: Elapsed time.
        memory_bytes: Growth of the process's private memory, which its other threads share.
    """

    name: str
    pid: int
    seconds: float
    memory_bytes: int


class Load:
    """A load that runs now; a load within it belongs to a resource that it needs.

    Attributes:
        outer: The load that this one is part of, if any.
        inner: The loads that were part of this one.
        seconds: Time from its begin to its end.
        memory_bytes: Growth of the process's private memory meanwhile.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outer = _current.get()
        self.seconds = 0.0
        self.memory_bytes = 0
        self.inner: list[Load] = []
        self._token: Token[Load | None] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        self.seconds, self.memory_bytes = -time.perf_counter(), -private_memory_bytes()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.seconds += time.perf_counter()
        self.memory_bytes += private_memory_bytes()
        if self.outer is not None:
            self.outer.inner.append(self)
        if self._token is not None:
            _current.reset(self._token)

    def path(self) -> list[str]:
        """Return the names from this load to the innermost one of this thread."""
        names, load = [self.name], _current.get()
        while load is not None and load is not self:
            names.insert(1, load.name)
            load = load.outer
        return names

    def record(self) -> LoadRecord:
        """Return what the load took by itself; call it after the block."""
        seconds = self.seconds - sum(load.seconds for load in self.inner)
        memory_bytes = self.memory_bytes - sum(load.memory_bytes for load in self.inner)
        return LoadRecord(self.name, os.getpid(), round(seconds, 4), memory_bytes)


#: The innermost load of this thread.
_current: ContextVar[Load | None] = ContextVar("emberq_load", default=None)


def make_value(function: Callable[[], T | Iterator[T]]) -> tuple[T, Iterator[T] | None]:
    """Call a function that returns a value, or yields one and cleans up after the yield.

    Returns:
        The value, and the generator whose next step cleans up, if there is one.
    """
    made = function()
    if not inspect.isgenerator(made):
        return cast("T", made), None
    generator = cast("Iterator[T]", made)
    return next(generator), generator
