"""Leaks: what a job left open, counted by kind and cleaned up where that is safe.

===================  ====================================================  ===========================
kind                 what is done                                          and the horse
===================  ====================================================  ===========================
`children`           killed with all their descendants, and reaped         continues
`temporary_files`    deleted (worker/job/tempdirs.py)                      continues
`descriptors`        closed if only garbage refers to them                 continues; ends if any stays
`connections`        the same for descriptors that are sockets             continues; ends if any stays
`threads`            waited for a moment                                   ends if they run on
`native_threads`     nothing: a library starts its pool once and keeps it  ends if too many add up
===================  ====================================================  ===========================

A descriptor that an object still refers to is not closed: the kernel would use its number again, and the
object would write into another job's file. The end of the process closes it safely.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from emberq.system.kept_open import KeptOpen, kept
from emberq.system.open_handles import (
    OpenHandles,
    child_processes,
    descriptor_target,
    list_open_handles,
    open_descriptors,
)
from emberq.system.processes import descendants, process_name

#: Seconds that ending threads get before they count as leaked.
_THREAD_GRACE_SECONDS = 0.1
#: Seconds to wait for the end of killed children; only a child stuck in the kernel needs any.
_REAP_SECONDS = 2.0
#: Descendants of one leaked child that are killed with it; the rest dies with the horse's process group.
_MAX_DESCENDANTS = 1000
#: Names of leaks that the log shows; the counts are exact.
_MAX_NAMES = 10
#: Native threads that jobs may leave in a horse: several libraries, each with a thread per processor.
_MAX_NATIVE_THREADS = 16 + 8 * (os.cpu_count() or 1)
#: Drivers and the C library open devices once for the process. Files in shared memory are the job's.
_DEVICES, _SHARED_MEMORY = "/dev/", "/dev/shm/"  # noqa: S108 - only compared with

#: Native threads that all jobs so far have left in this process.
_native_threads = 0


@dataclass(slots=True)
class Leaks:
    """What a job left behind.

    Attributes:
        counts: How many of each kind were found.
        uncleaned: How many of each kind are still open; they end the horse.
        names: A description of each, at most ten.
    """

    counts: dict[str, int] = field(default_factory=dict)
    uncleaned: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def note(self, kind: str, found: int, names: Iterable[str] = (), *, left: int = 0) -> None:
        """Add `found` leaks of one kind, of which `left` could not be cleaned up."""
        for counts, number in ((self.counts, found), (self.uncleaned, left)):
            if number:
                counts[kind] = counts.get(kind, 0) + number
        self.names.extend(list(names)[: _MAX_NAMES - len(self.names)])


def clean_leaks(before: OpenHandles) -> Leaks:
    """Find what a job opened and did not close, except what is kept open on purpose, and clean it up."""
    now, leaks = list_open_handles(), Leaks()
    if (
        now.descriptors <= before.descriptors
        and now.threads <= before.threads
        and now.native_threads <= before.native_threads
        and now.children <= before.children
    ):
        return leaks
    kept_open = kept(
        KeptOpen(
            {int(name) for name in now.descriptors - before.descriptors},
            set(now.threads - before.threads),
            set(now.children - before.children),
        )
    )
    _clean_children(before, kept_open, leaks)
    _wait_for_threads(before, kept_open, leaks)
    _close_descriptors(before, kept_open, leaks)
    _count_native_threads(before, leaks)
    return leaks


def _clean_children(before: OpenHandles, kept_open: KeptOpen, leaks: Leaks) -> None:
    leaked = child_processes() - before.children - kept_open.children
    if not leaked:
        return
    names = [f"child {pid} {process_name(pid)}" for pid in sorted(leaked)]
    below = [pid for child in leaked for pid in descendants(child, most=_MAX_DESCENDANTS)]
    for pid in (*leaked, *below):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    left = [pid for pid in leaked if not _reap(pid)]
    leaks.note("children", len(leaked), names, left=len(left))


def _reap(pid: int) -> bool:
    deadline = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.001)
    return False


def _wait_for_threads(before: OpenHandles, kept_open: KeptOpen, leaks: Leaks) -> None:
    known = before.threads | kept_open.threads | {threading.current_thread()}
    deadline = time.monotonic() + _THREAD_GRACE_SECONDS
    for thread in set(threading.enumerate()) - known:
        with contextlib.suppress(RuntimeError):
            # A thread that Python did not start, or that has not begun yet, cannot be joined.
            thread.join(max(0.0, deadline - time.monotonic()))
    leaked = set(threading.enumerate()) - known
    names = sorted(f"thread {thread.name}" for thread in leaked)
    leaks.note("threads", len(leaked), names, left=len(leaked))


def _close_descriptors(before: OpenHandles, kept_open: KeptOpen, leaks: Leaks) -> None:
    known = {int(name) for name in before.descriptors} | kept_open.descriptors
    found = _describe(open_descriptors() - known)
    if not found:
        return
    # Closes the descriptors of objects that only a reference cycle keeps alive.
    gc.collect()
    left = _describe(open_descriptors() - known)
    for kind, is_socket in (("connections", True), ("descriptors", False)):
        of_kind = {number: target for number, target in found.items() if _is_socket(target) is is_socket}
        names = [f"descriptor {number} {_peer(number) or target}" for number, target in of_kind.items()]
        leaks.note(kind, len(of_kind), names, left=len(of_kind.keys() & left.keys()))


def _describe(descriptors: Iterable[int]) -> dict[int, str]:
    targets = {number: descriptor_target(number) for number in sorted(descriptors)}
    return {
        number: target
        for number, target in targets.items()
        if target is not None and (not target.startswith(_DEVICES) or target.startswith(_SHARED_MEMORY))
    }


def _is_socket(target: str) -> bool:
    return target.startswith("socket:")


def _peer(descriptor: int) -> str | None:
    """Return the address that a socket is connected to, nothing for other descriptors."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        return f"socket to {copy.getpeername()}"
    return None


def _count_native_threads(before: OpenHandles, leaks: Leaks) -> None:
    global _native_threads  # noqa: PLW0603 - one sum per process
    more = list_open_handles().native_threads - before.native_threads
    if more <= 0:
        return
    _native_threads += more
    if _native_threads > _MAX_NATIVE_THREADS:
        leaks.note("native_threads", more, left=more)
