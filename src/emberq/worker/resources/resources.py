"""Resources: costly values loaded once per host, before the fork, and shared by every horse."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from emberq.errors import ResourceFailed, causes
from emberq.system.kept_open import adopting, keep_objects_open
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.job.scope import current_scope
from emberq.worker.resources.loading import LoadRecord, Loads, make_value

__all__ = [
    "LoadRecord",
    "Resource",
    "close_resources",
    "load_records",
    "needs_spawn",
    "preload",
    "resource",
]

T = TypeVar("T")

log = get_logger(__name__)

#: Resources loaded at the same time; loading is mostly waiting for files and servers.
_MAX_PARALLEL = 8

#: The attribute in which an error carries the names of the resources it came through, outermost first.
_CHAIN = "_emberq_resources"

_registered: list[Resource[Any]] = []
_loaded: list[Resource[Any]] = []
_records: list[LoadRecord] = []

_loads = Loads()
#: The process that loads in order to fork.
_forking_pid: int | None = None


class Resource(Generic[T]):
    """A function whose value is made on the first call and kept for the life of the process.

    Invariant: a value that was loaded before a fork is the same value in every child; no child
    loads it again, and only the process that loaded it cleans it up.

    Attributes:
        name: The function's name.
        value: What it returned or yielded; nothing before it is loaded.
        loaded_by: The process that loaded it.
        lazy: Whether it is loaded at the first call only.
        fork_safe: Whether the value survives a fork.
        main_thread: Whether it is loaded on the main thread.
    """

    def __init__(
        self,
        function: Callable[[], T | Iterator[T]],
        *,
        lazy: bool = False,
        fork_safe: bool = True,
        main_thread: bool = False,
    ) -> None:
        """Wrap a loader; it is not called yet."""
        self._function = function
        self._generator: Iterator[T] | None = None
        self._is_loaded = False
        self.value: T | None = None
        self.loaded_by: int | None = None
        self.name = function.__name__
        self.lazy = lazy
        self.fork_safe = fork_safe
        self.main_thread = main_thread
        functools.update_wrapper(self, function, updated=())

    def __call__(self) -> T:
        """Return the value, loading it first if nobody has.

        Raises:
            ResourceFailed: If resources need one another in a circle, or one that cannot be forked is
                needed before the fork.
            Exception: Whatever its loader raised.
        """
        if not self._is_loaded:
            self._refuse_before_fork()
            if _loads.begin(self, is_loaded=lambda: self._is_loaded):
                self._load()
        return cast("T", self.value)

    def _refuse_before_fork(self) -> None:
        if not self.fork_safe and os.getpid() == _forking_pid:
            raise ResourceFailed(
                f"The resource {self.name} cannot be forked, but is needed before the fork.",
                hint="Declare the resource that needs it with fork_safe=False or lazy=True as well.",
            )

    def _load(self) -> None:
        failure: BaseException | None = None
        try:
            # Outside a job nothing is counted, so nothing needs to be told apart.
            with adopting() if current_scope() is not None else contextlib.nullcontext():
                self.value, self._generator = make_value(self._function)
        except BaseException as exc:
            failure = exc
            exc.add_note(f"The resource {self.name} was being loaded.")
            _set_chain(exc, self.name)
            raise
        finally:
            _loads.end(self, failure, keep=self._keep)

    def _keep(self, seconds: float, memory_bytes: int, memory_is_shared: bool) -> None:  # noqa: FBT001 - as measured
        self._is_loaded, self.loaded_by = True, os.getpid()
        _loaded.append(self)
        _records.append(LoadRecord(self.name, os.getpid(), seconds, memory_bytes, memory_is_shared))
        log.info("resource_loaded", resource=self.name, seconds=seconds, memory_bytes=memory_bytes)
        metrics.resource_loaded(self.name, seconds=seconds)

    def close(self) -> None:
        """Run the generator's clean-up, if it has one, and forget the value."""
        generator, self._generator, self.value, self._is_loaded = self._generator, None, None, False
        if generator is not None:
            for _ in generator:
                msg = f"The resource {self.name} yielded more than once."
                raise RuntimeError(msg)


class _Declare(Protocol):
    """What `@resource(…)` is before it has a function."""

    @overload
    def __call__(self, function: Callable[[], Iterator[T]]) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[[], T]) -> Resource[T]: ...


@overload
def resource(function: Callable[[], Iterator[T]]) -> Resource[T]: ...
@overload
def resource(function: Callable[[], T]) -> Resource[T]: ...
@overload
def resource(*, lazy: bool = False, fork_safe: bool = True, main_thread: bool = False) -> _Declare: ...


def resource(
    function: Any = None, *, lazy: bool = False, fork_safe: bool = True, main_thread: bool = False
) -> Any:
    """Make a function's value a resource: loaded once per host, before the fork.

    A generator function may yield the value and clean up after the yield. Resources that do not need
    one another are loaded at the same time, in threads that have ended before anything is forked.

    Args:
        function: The loader; may call other resources, which are then loaded first.
        lazy: Load at the first call instead of before the fork, once per horse.
        fork_safe: Whether the value survives a fork. With CUDA, or with anything that keeps threads,
            it does not: the horse is then a process of its own that loads all resources once, and
            stays warm like any other.
        main_thread: Load on the main thread, for libraries that remember which thread made them
            (sqlite3, signal handlers, event loops).

    Example:
        >>> @resource
        ... def model():
        ...     return load_the_model()
    """

    def register(loader: Callable[[], Any]) -> Resource[Any]:
        made: Resource[Any] = Resource(loader, lazy=lazy, fork_safe=fork_safe, main_thread=main_thread)
        _registered.append(made)
        return made

    return register if function is None else register(function)


def preload(modules: Sequence[str] = (), *, before_fork: bool = False) -> list[LoadRecord]:
    """Import modules and load every resource that is not lazy; all of them or none.

    Args:
        modules: Dotted names of modules that declare resources.
        before_fork: Whether this process will fork; resources that do not survive it are left out.

    Returns:
        What was loaded now, in the order in which it was ready.

    Raises:
        ImportError: If a module cannot be imported.
        ResourceFailed: If a resource cannot be loaded; the message says which, and through which.
    """
    global _forking_pid  # noqa: PLW0603 - a fact about the process
    _forking_pid = os.getpid() if before_fork else None
    for module in modules:
        importlib.import_module(module)
    before = len(_records)
    wanted = [one for one in _registered if not one.lazy and (one.fork_safe or not before_fork)]
    try:
        _load_all(wanted)
    except BaseException:
        close_resources()
        raise
    return _records[before:]


def needs_spawn() -> bool:
    """Tell whether any declared resource keeps the horse from being forked."""
    return any(not one.fork_safe for one in _registered)


def load_records() -> list[LoadRecord]:
    """Return every load this process made or inherited, in order."""
    return list(_records)


def close_resources() -> None:
    """Clean up what this process loaded, newest first; one failure does not keep the others from it."""
    mine = [one for one in _loaded if one.loaded_by == os.getpid()]
    for closing in reversed(mine):
        _loaded.remove(closing)
        try:
            closing.close()
        except Exception as exc:
            log.exception("resource_close_failed", resource=closing.name, error=type(exc).__name__)


def _load_all(wanted: Sequence[Resource[Any]]) -> None:
    """Load on the main thread what must be there, then the rest in parallel; no thread is left."""
    in_parallel = [one for one in wanted if not one.main_thread]
    if len(in_parallel) == 1:
        in_parallel = []
    for one in wanted:
        if one not in in_parallel:
            _load_or_explain(one)
    if not in_parallel:
        return
    with ThreadPoolExecutor(min(len(in_parallel), _MAX_PARALLEL), "emberq-load") as threads:
        loads = [threads.submit(_load_or_explain, one) for one in in_parallel]
        done, _ = wait(loads, return_when=FIRST_EXCEPTION)
        threads.shutdown(cancel_futures=True)
    for load in loads:
        if load in done:
            load.result()


def _load_or_explain(one: Resource[Any]) -> None:
    try:
        one()
    except Exception as exc:
        through = "".join(f" It needs {name}, which could not be loaded." for name in _chain(exc)[1:])
        reason = exc.message if isinstance(exc, ResourceFailed) else f"{type(exc).__name__}: {exc}"
        raise ResourceFailed(f"The resource {one.name} could not be loaded.{through} {reason}") from exc


def _chain(exc: BaseException) -> tuple[str, ...]:
    """Return through which resources an error came, also where a loader wrapped it in one of its own."""
    return next((tuple(chain) for one in causes(exc) if (chain := vars(one).get(_CHAIN))), ())


def _set_chain(exc: BaseException, name: str) -> None:
    setattr(exc, _CHAIN, (name, *_chain(exc)))


@keep_objects_open
def _values() -> list[object]:
    return [one.value for one in _loaded]
