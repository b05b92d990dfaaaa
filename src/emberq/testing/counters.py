"""The counters of fault points, in memory that forked processes share."""

from __future__ import annotations

import mmap
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any

__all__ = ["Counters", "Crossing", "Fault", "Operation", "Variant"]


class Variant(StrEnum):
    """What happens at the operation that breaks."""

    #: The operation is not done, and the library raises its own error.
    RAISE_BEFORE = "raise before"
    #: The operation is done, and the library raises the same error.
    RAISE_AFTER = "raise after"
    #: The operation is not done, and the process is killed by SIGKILL.
    EXIT_BEFORE = "exit before"
    #: The operation is done, and the process is killed by SIGKILL.
    EXIT_AFTER = "exit after"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is to happen once.

    Attributes:
        process: The name of the process, as given to `Counters.become`.
        number: The number of its operation since `arm`, counted from 1.
        variant: What happens at this operation.
    """

    process: str
    number: int
    variant: Variant


@dataclass(frozen=True, slots=True)
class Crossing:
    """An operation that was counted.

    Attributes:
        process: The name of the process that did it.
        number: The number of the operation in this process, counted from 1.
        kind: `redis`, `sql`, `disk` or `model`.
        name: A description for people, such as the command or the statement.
    """

    process: str
    number: int
    kind: str
    name: str


@dataclass(slots=True)
class Operation:
    """An operation in progress, from `Counters.begin` to `Counters.end`.

    Attributes:
        round: The number of the last `arm` before it began.
        number: Its number in its process, 0 if it does not count.
        broken: Makes the error that is raised if it breaks.
    """

    round: int
    number: int
    broken: Callable[[], BaseException]


#: Indices of the shared memory: the round, the fault's process, number and variant, and whether it has
#: happened; then a counter for each process.
_ROUND, _PROCESS, _NUMBER, _VARIANT, _FIRED, _COUNTS = range(6)
_NONE = -1
_VARIANTS = tuple(Variant)
#: Longest name of an operation in the trace, in characters.
_NAME_LENGTH = 60


class Counters:
    """Counters in shared memory, used by all forked processes, and the fault points that count.

    Invariant: a fault happens at most once after it was armed, also if the broken work runs again.
    """

    def __init__(
        self,
        processes: Sequence[str],
        *,
        trace: Path | None = None,
        directory: Path | None = None,
        ignored_threads: Sequence[str] = (),
    ) -> None:
        """Map the memory; no library is patched yet.

        Args:
            processes: The names of the processes that count.
            trace: A file that gets a line for every operation; without it `crossings` is empty.
            directory: Operations on files below this directory are counted, too.
            ignored_threads: Names of threads that do not count.
        """
        self._processes = tuple(processes)
        self._memory = memoryview(mmap.mmap(-1, 8 * (_COUNTS + len(processes)))).cast("q")
        self._trace = None if trace is None else os.open(trace, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        self._directory = directory
        self._ignored_threads = frozenset(ignored_threads)
        self._index = _NONE
        self._undo: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_anew)
        self.arm(None)

    def _begin_anew(self) -> None:
        """Stop counting in a forked process; another thread may have had the lock at the fork."""
        self._index = _NONE
        self._lock = threading.Lock()

    def arm(self, fault: Fault | None) -> None:
        """Set all counters to 0 and choose the fault; with None, operations are only counted."""
        self._memory[_PROCESS] = _NONE
        self._memory[_FIRED] = 0
        for index in range(len(self._processes)):
            self._memory[_COUNTS + index] = 0
        if self._trace is not None:
            os.ftruncate(self._trace, 0)
        self._memory[_ROUND] += 1
        if fault is not None:
            self._memory[_NUMBER] = fault.number
            self._memory[_VARIANT] = _VARIANTS.index(fault.variant)
            self._memory[_PROCESS] = self._processes.index(fault.process)

    def become(self, process: str | None) -> None:
        """Begin to count as the process of this name; None ends the counting.

        A process that is forked later does not count until it calls this itself.
        """
        self._index = _NONE if process is None else self._processes.index(process)

    @property
    def has_fired(self) -> bool:
        """Whether the chosen fault has happened."""
        return bool(self._memory[_FIRED])

    @property
    def is_counting(self) -> bool:
        """Whether this process counts."""
        return self._index != _NONE

    def counts(self) -> dict[str, int]:
        """Return the number of operations of each process since `arm`."""
        return {name: self._memory[_COUNTS + index] for index, name in enumerate(self._processes)}

    def crossings(self) -> list[Crossing]:
        """Return the operations since `arm`, in order; none without a trace."""
        if self._trace is None:
            return []
        size = os.fstat(self._trace).st_size
        lines = os.pread(self._trace, size, 0).decode(errors="replace").splitlines()
        rows = (line.split("\t", 3) for line in lines)
        return [Crossing(row[0], int(row[1]), row[2], row[3]) for row in rows]

    def uninstall(self) -> None:
        """Remove the fault points from the libraries in this process."""
        while self._undo:
            self._undo.pop()()

    def patch(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function by `make(function)`, until `uninstall`."""
        original = owner.__dict__[name]
        setattr(owner, name, make(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def begin(self, kind: str, name: str, broken: Callable[[], BaseException]) -> Operation:
        """Count an operation that is about to be done; breaks it if its fault is due.

        Args:
            kind: What the operation goes to: `redis`, `sql`, `disk` or `model`.
            name: A description for the trace.
            broken: Makes the library's error, and closes what the failure would have closed.
        """
        operation = Operation(self._memory[_ROUND], self._next(kind, name), broken)
        self._cross(operation, Variant.RAISE_BEFORE, Variant.EXIT_BEFORE)
        return operation

    def end(self, operation: Operation, kind: str, name: str) -> None:
        """Note that an operation was done; breaks it if its fault is due.

        An operation that began before `arm` is counted here.
        """
        if operation.round != self._memory[_ROUND]:
            operation = Operation(self._memory[_ROUND], self._next(kind, name), operation.broken)
        self._cross(operation, Variant.RAISE_AFTER, Variant.EXIT_AFTER)

    def _next(self, kind: str, name: str) -> int:
        index = self._index
        if index == _NONE or threading.current_thread().name in self._ignored_threads:
            return 0
        with self._lock:
            self._memory[_COUNTS + index] += 1
            number: int = self._memory[_COUNTS + index]
        if self._trace is not None:
            shown = " ".join(name.split())[:_NAME_LENGTH]
            os.write(self._trace, f"{self._processes[index]}\t{number}\t{kind}\t{shown}\n".encode())
        return number

    def _cross(self, operation: Operation, raising: Variant, exiting: Variant) -> None:
        memory = self._memory
        is_due = (
            operation.number
            and operation.number == memory[_NUMBER]
            and self._index == memory[_PROCESS]
            and not memory[_FIRED]
        )
        if not is_due:
            return
        variant = _VARIANTS[memory[_VARIANT]]
        if variant is exiting:
            memory[_FIRED] = 1
            os.kill(os.getpid(), signal.SIGKILL)
        if variant is raising:
            memory[_FIRED] = 1
            raise operation.broken()

    def around(self, kind: str, name: Callable[..., str], broken: Callable[..., BaseException]) -> Any:
        """Return a decorator that makes a function a fault point; it works for your own functions, too.

        Args:
            kind: What the calls go to, for the trace.
            name: Describes a call, from its positional arguments.
            broken: Makes the error of a broken call, from the same arguments.
        """

        def decorate(original: Any) -> Any:
            @wraps(original)
            def point(*args: Any, **kwargs: Any) -> Any:
                shown = name(*args)
                operation = self.begin(kind, shown, lambda: broken(*args))
                result = original(*args, **kwargs)
                self.end(operation, kind, shown)
                return result

            return point

        return decorate
