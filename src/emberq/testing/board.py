"""The board that fault points count on, in memory that forked processes share."""

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

__all__ = ["Board", "Crossing", "Fault", "Operation", "Variant"]


class Variant(StrEnum):
    """What happens at the chosen operation."""

    #: The library's own error, and nothing was done.
    RAISE_BEFORE = "raise before"
    #: The library's own error, though it was done.
    RAISE_AFTER = "raise after"
    #: SIGKILL of the process, and nothing was done.
    EXIT_BEFORE = "exit before"
    #: SIGKILL of the process as soon as it was done.
    EXIT_AFTER = "exit after"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to come.

    Attributes:
        process: Which process, as it called itself in `Board.become`.
        number: Which of its operations since `arm`, counted from 1.
        variant: What happens there.
    """

    process: str
    number: int
    variant: Variant


@dataclass(frozen=True, slots=True)
class Crossing:
    """One operation that was counted.

    Attributes:
        process: The process that did it.
        number: Which of its operations it was, counted from 1.
        kind: `redis`, `sql`, `disk` or `model`.
        name: What it was, for people.
    """

    process: str
    number: int
    kind: str
    name: str


@dataclass(slots=True)
class Operation:
    """An operation on its way, from `Board.begin` to `Board.end`.

    Attributes:
        round: Which `arm` it began after.
        number: Which of its process's operations it is, 0 if it does not count.
        broken: Makes the error that its failure looks like.
    """

    round: int
    number: int
    broken: Callable[[], BaseException]


#: Places on the board: the round, the fault's process, number and variant, and whether it has happened;
#: behind them a counter for each process.
_ROUND, _PROCESS, _NUMBER, _VARIANT, _FIRED, _COUNTS = range(6)
_NOBODY = -1
_VARIANTS = tuple(Variant)
#: Longest name of an operation in the trace, in characters.
_NAME_LENGTH = 60


class Board:
    """A board in shared memory, on which all forked processes count, and the points that write on it.

    Invariant: a fault happens at most once after it was armed, whatever runs again because of it.
    """

    def __init__(
        self,
        processes: Sequence[str],
        *,
        trace: Path | None = None,
        directory: Path | None = None,
        ignored_threads: Sequence[str] = (),
    ) -> None:
        """Make a board; nothing is changed in any library yet.

        Args:
            processes: The names of the processes that count.
            trace: A file that gets a line for every operation; without it `crossings` is empty.
            directory: Operations on files below it are counted, too.
            ignored_threads: Names of threads that do not count.
        """
        self._processes = tuple(processes)
        self._board = memoryview(mmap.mmap(-1, 8 * (_COUNTS + len(processes)))).cast("q")
        self._trace = None if trace is None else os.open(trace, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        self._directory = directory
        self._ignored_threads = frozenset(ignored_threads)
        self._index = _NOBODY
        self._undo: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_anew)
        self.arm(None)

    def _begin_anew(self) -> None:
        """Be nobody, in a forked process; another thread may have held the lock at the fork."""
        self._index = _NOBODY
        self._lock = threading.Lock()

    def arm(self, fault: Fault | None) -> None:
        """Count from 1 again, in all processes, towards this fault, or without one."""
        self._board[_PROCESS] = _NOBODY
        self._board[_FIRED] = 0
        for index in range(len(self._processes)):
            self._board[_COUNTS + index] = 0
        if self._trace is not None:
            os.ftruncate(self._trace, 0)
        self._board[_ROUND] += 1
        if fault is not None:
            self._board[_NUMBER] = fault.number
            self._board[_VARIANT] = _VARIANTS.index(fault.variant)
            self._board[_PROCESS] = self._processes.index(fault.process)

    def become(self, process: str | None) -> None:
        """Say which process this is, nothing to end the counting; what it forks has to say so for itself."""
        self._index = _NOBODY if process is None else self._processes.index(process)

    @property
    def has_fired(self) -> bool:
        """Whether the fault has happened."""
        return bool(self._board[_FIRED])

    @property
    def is_counting(self) -> bool:
        """Whether this process has said which it is."""
        return self._index != _NOBODY

    def counts(self) -> dict[str, int]:
        """Return how many operations each process has done since `arm`."""
        return {name: self._board[_COUNTS + index] for index, name in enumerate(self._processes)}

    def crossings(self) -> list[Crossing]:
        """Return the operations since `arm`, in order, as far as they were traced."""
        if self._trace is None:
            return []
        size = os.fstat(self._trace).st_size
        lines = os.pread(self._trace, size, 0).decode(errors="replace").splitlines()
        rows = (line.split("\t", 3) for line in lines)
        return [Crossing(row[0], int(row[1]), row[2], row[3]) for row in rows]

    def uninstall(self) -> None:
        """Take the points out of this process."""
        while self._undo:
            self._undo.pop()()

    def patch(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function by what `make` makes of it, until `uninstall`."""
        original = owner.__dict__[name]
        setattr(owner, name, make(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def begin(self, kind: str, name: str, broken: Callable[[], BaseException]) -> Operation:
        """Count an operation that is about to be done.

        Args:
            kind: What it goes to.
            name: What it is, for the trace.
            broken: Makes the error that its failure would raise, and breaks what would be broken then.
        """
        operation = Operation(self._board[_ROUND], self._next(kind, name), broken)
        self._cross(operation, Variant.RAISE_BEFORE, Variant.EXIT_BEFORE)
        return operation

    def end(self, operation: Operation, kind: str, name: str) -> None:
        """Note that an operation was done; one that began before `arm` counts now."""
        if operation.round != self._board[_ROUND]:
            operation = Operation(self._board[_ROUND], self._next(kind, name), operation.broken)
        self._cross(operation, Variant.RAISE_AFTER, Variant.EXIT_AFTER)

    def _next(self, kind: str, name: str) -> int:
        index = self._index
        if index == _NOBODY or threading.current_thread().name in self._ignored_threads:
            return 0
        with self._lock:
            self._board[_COUNTS + index] += 1
            number: int = self._board[_COUNTS + index]
        if self._trace is not None:
            shown = " ".join(name.split())[:_NAME_LENGTH]
            os.write(self._trace, f"{self._processes[index]}\t{number}\t{kind}\t{shown}\n".encode())
        return number

    def _cross(self, operation: Operation, raising: Variant, exiting: Variant) -> None:
        board = self._board
        is_due = (
            operation.number
            and operation.number == board[_NUMBER]
            and self._index == board[_PROCESS]
            and not board[_FIRED]
        )
        if not is_due:
            return
        variant = _VARIANTS[board[_VARIANT]]
        if variant is exiting:
            board[_FIRED] = 1
            os.kill(os.getpid(), signal.SIGKILL)
        if variant is raising:
            board[_FIRED] = 1
            raise operation.broken()

    def around(self, kind: str, name: Callable[..., str], broken: Callable[..., BaseException]) -> Any:
        """Return a decorator that makes a function a point, also one of yours.

        Args:
            kind: What its calls go to.
            name: Names a call, from its positional arguments.
            broken: Makes the error of a call that fails, from the same.
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
