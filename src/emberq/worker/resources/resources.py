"""Resources: values that are loaded once per host, before the fork, and shared by all horses."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from emberq.errors import ResourceFailed, causes
from emberq.system.kept_open import adopting, keep_objects_open
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.job.scope import current_scope
from emberq.worker.resources.loading import Load, LoadRecord, make_value

T = TypeVar("T")

log = get_logger(__name__)

#: The attribute in which an error carries the names of the resources it came through, outermost first.
_CHAIN = "_emberq_resources"

_declared: list[Resource[Any]] = []
#: In the order in which they were loaded, here or in the process that forked this one.
_loaded: list[Resource[Any]] = []
#: The process that loads in order to fork.
_forking_pid: int | None = None


class Resource(Generic[T]):
    """A function whose value is made on the first call and kept for the life of the process.

    Invariant: a value that was loaded before a fork is the same value in every child; no child
    loads it again, and only the process that loaded it cleans it up.

    Attributes:
        name: The function's name.
        value: What it returned or yielded; None before it is loaded.
        record: What loading it took, and in which process; None before it is loaded.
        lazy: Whether it is loaded at the first call only.
        fork_safe: Whether the value survives a fork.
    """

    def __init__(
        self, function: Callable[[], T | Iterator[T]], *, lazy: bool = False, fork_safe: bool = True
    ) -> None:
        self._function = function
        self._generator: Iterator[T] | None = None
        #: Threads of a job may ask for a lazy resource at the same time.
        self._lock = threading.RLock()
        self._load: Load | None = None
        self.value: T | None = None
        self.record: LoadRecord | None = None
        self.name = function.__name__
        self.lazy = lazy
        self.fork_safe = fork_safe
        functools.update_wrapper(self, function, updated=())

    def __call__(self) -> T:
        """Return the value; the first call loads it.

        Raises:
            ResourceFailed: If resources need one another in a circle, or a resource that cannot be
                forked is needed before the fork.
            Exception: What its loader raised.
        """
        if self.record is None:
            self._refuse_before_fork()
            with self._lock:
                self._refuse_circle()
                if self.record is None:
                    self._make()
        return cast("T", self.value)

    def _refuse_before_fork(self) -> None:
        if not self.fork_safe and os.getpid() == _forking_pid:
            raise ResourceFailed(
                f"The resource {self.name} cannot be forked, but is needed before the fork.",
                hint="Declare the resource that needs it with fork_safe=False or lazy=True as well.",
            )

    def _refuse_circle(self) -> None:
        """Refuse a call from within this resource's own load: the lock lets this thread in again."""
        if self._load is not None:
            circle = " → ".join([*self._load.path(), self.name])
            raise ResourceFailed(
                f"The resources need one another in a circle: {circle}.",
                hint="Move what they need of one another into a further resource.",
            )

    def _make(self) -> None:
        self._load = Load(self.name)
        try:
            # Only within a job are open descriptors counted, so only there are these told apart.
            with self._load, adopting() if current_scope() is not None else contextlib.nullcontext():
                self.value, self._generator = make_value(self._function)
            self._note_loaded(self._load.record())
        except BaseException as exc:
            exc.add_note(f"The resource {self.name} was being loaded.")
            setattr(exc, _CHAIN, (self.name, *_chain(exc)))
            raise
        finally:
            self._load = None

    def _note_loaded(self, record: LoadRecord) -> None:
        self.record = record
        _loaded.append(self)
        log.info(
            "resource_loaded", resource=self.name, seconds=record.seconds, memory_bytes=record.memory_bytes
        )
        metrics.set_resource_load_time(self.name, seconds=record.seconds)

    def close(self) -> None:
        """Run the generator's clean-up, if it has one, and forget the value."""
        generator, self._generator, self.value, self.record = self._generator, None, None, None
        if generator is not None:
            for _ in generator:
                msg = f"The resource {self.name} yielded more than once."
                raise RuntimeError(msg)


class _Declare(Protocol):
    """The decorator that `resource` returns when it is called with options."""

    @overload
    def __call__(self, function: Callable[[], Iterator[T]]) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[[], T]) -> Resource[T]: ...


@overload
def resource(function: Callable[[], Iterator[T]]) -> Resource[T]: ...
@overload
def resource(function: Callable[[], T]) -> Resource[T]: ...
@overload
def resource(*, lazy: bool = False, fork_safe: bool = True) -> _Declare: ...


def resource(function: Any = None, *, lazy: bool = False, fork_safe: bool = True) -> Any:
    """Make a function's value a resource: loaded once per host, before the fork.

    A generator function may yield the value and clean up after the yield. Resources are loaded one after
    the other on the main thread, in the order in which they are declared. A loader may use threads that
    end before it returns.

    Args:
        function: The loader; may call other resources, which are then loaded first.
        lazy: Load at the first call instead of before the fork, once per horse.
        fork_safe: Whether the value survives a fork. With CUDA, or with a library that keeps threads,
            it does not: the horse is then a process of its own that loads all resources once, and
            stays warm like any other.

    Example:
        >>> @resource
        ... def model():
        ...     return load_the_model()
    """

    def register(loader: Callable[[], Any]) -> Resource[Any]:
        made: Resource[Any] = Resource(loader, lazy=lazy, fork_safe=fork_safe)
        _declared.append(made)
        return made

    return register if function is None else register(function)


def preload(modules: Sequence[str] = (), *, before_fork: bool = False) -> list[LoadRecord]:
    """Import modules and load every resource that is not lazy; all of them or none.

    Args:
        modules: Dotted names of modules that declare resources.
        before_fork: Whether this process will fork; resources that do not survive it are left out.

    Returns:
        What each load took, in the order in which the resources were ready.

    Raises:
        ImportError: If a module cannot be imported.
        ResourceFailed: If a resource cannot be loaded; the message says which, and through which.
    """
    global _forking_pid  # noqa: PLW0603 - a fact about the process
    _forking_pid = os.getpid() if before_fork else None
    for module in modules:
        importlib.import_module(module)
    before = len(_loaded)
    wanted = [one for one in _declared if not one.lazy and (one.fork_safe or not before_fork)]
    try:
        for one in wanted:
            _load_or_explain(one)
    except BaseException:
        close_resources()
        raise
    return [one.record for one in _loaded[before:] if one.record is not None]


def needs_spawn() -> bool:
    """Tell whether a declared resource does not survive a fork, so that horses must be spawned."""
    return any(not one.fork_safe for one in _declared)


def close_resources() -> None:
    """Close the resources that this process loaded, newest first; errors are logged, not raised."""
    own = [one for one in _loaded if one.record is not None and one.record.pid == os.getpid()]
    for one in reversed(own):
        _loaded.remove(one)
        try:
            one.close()
        except Exception as exc:
            log.exception("resource_close_failed", resource=one.name, error=type(exc).__name__)


def _load_or_explain(one: Resource[Any]) -> None:
    try:
        one()
    except Exception as exc:
        through = "".join(f" It needs {name}, which could not be loaded." for name in _chain(exc)[1:])
        reason = exc.message if isinstance(exc, ResourceFailed) else f"{type(exc).__name__}: {exc}"
        raise ResourceFailed(f"The resource {one.name} could not be loaded.{through} {reason}") from exc


def _chain(error: BaseException) -> tuple[str, ...]:
    """Return the resources that an error came through, also where a loader raised one of its own from it."""
    return next((tuple(chain) for one in causes(error) if (chain := vars(one).get(_CHAIN))), ())


@keep_objects_open
def _values() -> list[object]:
    return [one.value for one in _loaded]
