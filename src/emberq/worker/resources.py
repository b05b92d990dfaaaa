"""Resources: costly values loaded once per host, before the fork, and shared by every horse."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.processes import private_memory_bytes

__all__ = ["LoadRecord", "Resource", "close_resources", "load_records", "preload", "resource"]

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """How one resource was loaded.

    Attributes:
        name: The resource's function name.
        pid: The process that loaded it.
        seconds: How long it took.
        memory_bytes: By how much the process's private memory grew.
    """

    name: str
    pid: int
    seconds: float
    memory_bytes: int


_registered: list[Resource[Any]] = []
_loaded: list[Resource[Any]] = []
_records: list[LoadRecord] = []


class Resource(Generic[T]):
    """A function whose value is made on the first call and kept for the life of the process.

    Invariant: a value that was loaded before a fork is the same value in every child; no child
    loads it again.
    """

    def __init__(self, function: Callable[[], T | Iterator[T]], *, lazy: bool) -> None:
        """Wrap a loader; it is not called yet."""
        self._function = function
        self._generator: Iterator[T] | None = None
        self._value: T | None = None
        self._is_loaded = False
        self.name = function.__name__
        self.lazy = lazy
        functools.update_wrapper(self, function)

    def __call__(self) -> T:
        """Return the value, loading it first if nobody has."""
        if not self._is_loaded:
            self._load()
        return cast("T", self._value)

    def _load(self) -> None:
        started = time.perf_counter()
        before = private_memory_bytes()
        made = self._function()
        if inspect.isgenerator(made):
            self._generator = cast("Iterator[T]", made)
            self._value = next(self._generator)
        else:
            self._value = cast("T", made)
        self._is_loaded = True
        _loaded.append(self)
        record = LoadRecord(
            name=self.name,
            pid=os.getpid(),
            seconds=round(time.perf_counter() - started, 4),
            memory_bytes=private_memory_bytes() - before,
        )
        _records.append(record)
        metrics.resource_loaded(record.name, seconds=record.seconds)
        log.info(
            "resource_loaded", resource=record.name, seconds=record.seconds, memory_bytes=record.memory_bytes
        )

    def close(self) -> None:
        """Run the generator's clean-up, if it has one, and forget the value."""
        generator, self._generator, self._value, self._is_loaded = self._generator, None, None, False
        if generator is not None:
            for _ in generator:
                msg = f"The resource {self.name} yielded more than once."
                raise RuntimeError(msg)


@overload
def resource(function: Callable[[], Iterator[T]]) -> Resource[T]: ...
@overload
def resource(function: Callable[[], T]) -> Resource[T]: ...
@overload
def resource(*, lazy: bool = False) -> Callable[[Callable[[], T]], Resource[T]]: ...


def resource(function: Any = None, *, lazy: bool = False) -> Any:
    """Make a function's value a resource: loaded once per host, before the fork.

    A generator function may yield the value and clean up after the yield.

    Args:
        function: The loader; may call other resources, which are then loaded first.
        lazy: Load at the first call instead of before the fork.

    Example:
        >>> @resource
        ... def model():
        ...     return load_the_model()
    """

    def register(loader: Callable[[], Any]) -> Resource[Any]:
        made: Resource[Any] = Resource(loader, lazy=lazy)
        _registered.append(made)
        return made

    return register if function is None else register(function)


def preload(modules: Sequence[str] = ()) -> list[LoadRecord]:
    """Import modules and load every resource that is not lazy.

    Args:
        modules: Dotted names of modules that declare resources.

    Returns:
        What was loaded now, in order.

    Raises:
        ImportError: If a module cannot be imported.
    """
    for module in modules:
        importlib.import_module(module)
    before = len(_records)
    for registered in _registered:
        if not registered.lazy:
            registered()
    return _records[before:]


def load_records() -> list[LoadRecord]:
    """Return every load this process made or inherited, in order."""
    return list(_records)


def close_resources() -> None:
    """Clean up what was loaded, newest first; one failure does not keep the others from it."""
    while _loaded:
        closing = _loaded.pop()
        try:
            closing.close()
        except Exception as exc:
            log.exception("resource_close_failed", resource=closing.name, error=type(exc).__name__)
