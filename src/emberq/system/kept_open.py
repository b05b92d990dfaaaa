"""What a process keeps open on purpose: resources, connections, pools. None of it is a leak.

Nobody can list the descriptors of every client library. So what is kept is found by looking through
the objects that were declared as kept: anything in them with a `fileno()`, every thread, every child.
That is not cheap, and writes to the pages that horses share; so it is only done when a job has left
something open, pools first, and no further than until all of that is found.
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

__all__ = ["KeptOpen", "adopting", "find_open", "keep_objects_open", "keep_open", "kept"]

#: Objects looked at before the search is given up; a large model's wrapper has some ten thousand.
_MAX_OBJECTS = 200_000
#: What holds nothing, or leads away from the object into the whole program.
_DEAD_ENDS = (
    *(str, bytes, bytearray, int, float, complex, type(None), range, slice),
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    *(types.CodeType, types.FrameType, types.TracebackType, types.GeneratorType, types.CoroutineType),
    *(weakref.ref, logging.Logger, logging.Manager),
)


@dataclass(slots=True)
class KeptOpen:
    """What is kept on purpose.

    Attributes:
        descriptors: File descriptors.
        threads: Threads.
        children: Ids of child processes.
    """

    descriptors: set[int] = field(default_factory=set)
    threads: set[threading.Thread] = field(default_factory=set)
    children: set[int] = field(default_factory=set)

    def add(self, other: KeptOpen) -> None:
        """Add what the other keeps."""
        self.descriptors |= other.descriptors
        self.threads |= other.threads
        self.children |= other.children

    def covers(self, other: KeptOpen) -> bool:
        """Tell whether all that the other has is kept here."""
        return (
            other.descriptors <= self.descriptors
            and other.threads <= self.threads
            and other.children <= self.children
        )


_pools: list[Callable[[], object]] = []
_objects: list[Callable[[], object]] = []
_adopted = KeptOpen()


def keep_open(holder: Callable[[], object]) -> Callable[[], object]:
    """Register a pool that keeps things open between jobs on purpose.

    Args:
        holder: Returns the object (a pool, an engine, a list of clients) as it is now; whatever
            descriptors, threads and child processes it holds are no leaks.
    """
    _pools.append(holder)
    return holder


def keep_objects_open(holder: Callable[[], object]) -> Callable[[], object]:
    """Do the same for objects of any size; they are looked through after all pools."""
    _objects.append(holder)
    return holder


def kept(wanted: KeptOpen) -> KeptOpen:
    """Return what is kept on purpose at this moment.

    Args:
        wanted: What somebody asks about; the search ends when all of it is found.
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
    """Keep whatever the block leaves open, also what cannot be seen from Python objects.

    For loading a resource in the middle of a job: a driver or a native library opens what it likes.
    """
    descriptors, threads, children = open_descriptors(), set(threading.enumerate()), child_processes()
    try:
        yield
    finally:
        # A number that was closed since may be somebody else's today.
        _adopted.descriptors.intersection_update(descriptors)
        _adopted.descriptors.update(open_descriptors() - descriptors)
        _adopted.threads.intersection_update(threads)
        _adopted.threads.update(set(threading.enumerate()) - threads)
        _adopted.children.intersection_update(children)
        _adopted.children.update(child_processes() - children)


def find_open(roots: Iterable[object]) -> KeptOpen:
    """Find descriptors, threads and child processes in objects and all they refer to.

    Args:
        roots: Where to begin. Modules, classes and functions are not entered: they lead everywhere.
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
        # A closed thing has no number and says so in ways of its own.
        with contextlib.suppress(Exception):
            found.descriptors.add(int(thing.fileno()))  # type: ignore[attr-defined]


def _helpers_of_multiprocessing() -> KeptOpen:
    """Return the resource tracker and the fork server, which multiprocessing starts once for good."""
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
