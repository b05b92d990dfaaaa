"""What a process keeps open on purpose: resources, connections, pools. None of it is a leak.

Client libraries do not list their descriptors, and most open them at first use, within a job. So what is kept
is found by searching the registered objects and all they refer to: anything with a `fileno()`, every thread,
every child process. The search takes 0.1 ms for an HTTP client and much longer for a model, and writes to
pages that horses share. So it runs only when a job has left something open, pools first, and ends as soon as
everything is found.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import subprocess
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from emberq.system.open_handles import child_processes, open_descriptors

#: Most objects of one search; a large model's wrapper has some ten thousand.
_MAX_OBJECTS = 200_000
#: Types that are not searched: leaves, and references to the whole program.
_DEAD_ENDS = (
    *(str, bytes, bytearray, int, float, complex, type(None), range, slice),
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    *(types.CodeType, types.FrameType, types.TracebackType, types.GeneratorType, types.CoroutineType),
    *(weakref.ref, logging.Logger, logging.Manager),
)


@dataclass(slots=True)
class KeptOpen:
    """Descriptors, threads and child processes that are kept open on purpose.

    Attributes:
        descriptors: File descriptors.
        threads: Threads.
        children: Ids of child processes.
    """

    descriptors: set[int] = field(default_factory=set)
    threads: set[threading.Thread] = field(default_factory=set)
    children: set[int] = field(default_factory=set)

    def add(self, other: KeptOpen) -> None:
        """Add everything of another one."""
        self.descriptors |= other.descriptors
        self.threads |= other.threads
        self.children |= other.children

    def covers(self, other: KeptOpen) -> bool:
        """Tell whether everything of another one is in this one."""
        return (
            other.descriptors <= self.descriptors
            and other.threads <= self.threads
            and other.children <= self.children
        )


_pools: list[Callable[[], object]] = []
_objects: list[Callable[[], object]] = []
_adopted = KeptOpen()


def keep_open(get: Callable[[], object]) -> Callable[[], object]:
    """Register a pool: descriptors, threads and child processes in it are no leaks.

    Args:
        get: Returns the pool, engine or list of clients as it is now.
    """
    _pools.append(get)
    return get


def keep_objects_open(get: Callable[[], object]) -> Callable[[], object]:
    """Register objects of any size in the same way; they are searched after all pools."""
    _objects.append(get)
    return get


def kept(wanted: KeptOpen) -> KeptOpen:
    """Return what is kept open on purpose now.

    Args:
        wanted: What to look for; the search ends when all of it is found.
    """
    found = _helpers_of_multiprocessing()
    found.add(_adopted)
    roots = [*_pools, lambda: logging.getLogger().handlers, *_objects]
    for root in roots:
        if found.covers(wanted):
            break
        found.add(find_open([root()]))
    return found


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Keep open what the block opens, including what no Python object shows.

    For a resource that is loaded within a job: its driver or native library may open anything.
    """
    descriptors, threads, children = open_descriptors(), set(threading.enumerate()), child_processes()
    try:
        yield
    finally:
        # A number that was closed may be another file's by now.
        _adopted.descriptors.intersection_update(descriptors)
        _adopted.descriptors.update(open_descriptors() - descriptors)
        _adopted.threads.intersection_update(threads)
        _adopted.threads.update(set(threading.enumerate()) - threads)
        _adopted.children.intersection_update(children)
        _adopted.children.update(child_processes() - children)


def find_open(roots: Iterable[object]) -> KeptOpen:
    """Find descriptors, threads and child processes in objects and all they refer to.

    Args:
        roots: Where to begin. Modules, classes and functions are not searched: they lead everywhere.
    """
    found = KeptOpen()
    queue: deque[object] = deque(roots)
    seen: set[int] = set()
    while queue and len(seen) < _MAX_OBJECTS:
        thing = queue.popleft()
        if id(thing) in seen or isinstance(thing, _DEAD_ENDS):
            continue
        seen.add(id(thing))
        if isinstance(thing, threading.Thread):
            found.threads.add(thing)
            continue
        _note(thing, found)
        queue.extend(gc.get_referents(thing))
    return found


def _note(thing: object, found: KeptOpen) -> None:
    if isinstance(thing, subprocess.Popen):
        found.children.add(thing.pid)
    elif isinstance(thing, BaseProcess):
        with contextlib.suppress(ValueError):
            found.children.add(thing.pid or 0)
            found.descriptors.add(thing.sentinel)
    elif callable(getattr(type(thing), "fileno", None)):
        # A closed object has no number; libraries raise different errors then.
        with contextlib.suppress(Exception):
            found.descriptors.add(int(thing.fileno()))  # type: ignore[attr-defined]


def _helpers_of_multiprocessing() -> KeptOpen:
    """Return the resource tracker and the fork server, which multiprocessing starts once per process."""
    found = KeptOpen()
    for module, name, pid, descriptor in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid", "_fd"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
    ):
        helper = getattr(sys.modules.get(module), name, None)
        if getattr(helper, pid, None) is not None:
            found.children.add(getattr(helper, pid))
            found.descriptors.add(getattr(helper, descriptor))
    return found
