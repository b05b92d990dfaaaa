"""Reads a file in a forked child that may hang, crash or swell without harm to its parent.

The child speaks to the parent over a pipe, in frames: a letter, a length, a body. The letters are `P`
(progress), `R` (the document) and `E` (an error). The child parses hostile input, so the parent trusts
nothing it says: bodies are numbers and JSON, never pickles, and their lengths are bounded.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, starmap
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from emberq.errors import (
    BlobMissing,
    EmberqError,
    ExtractionCrashed,
    ExtractionTimeout,
    FileError,
    MemoryLimitExceeded,
    StorageUnavailable,
    error_for_code,
)
from emberq.pipeline.document import Document
from emberq.pipeline.sandbox import wire
from emberq.pipeline.sandbox.child import EXIT_MEMORY, MAX_DETAIL, serve
from emberq.retry.backoff import Backoff
from emberq.system.memory import resident_bytes

__all__ = ["extract_sandboxed"]

_Progress: TypeAlias = Callable[[int, int], None]

#: What a child may say of a file.
_ANSWERS: Final = frozenset({*FileError.__subclasses__(), ExtractionCrashed, BlobMissing})
#: Bytes of an error's JSON at most; it holds some sentences and a traceback.
_MAX_ERROR: Final = 256 * 1024
#: Bytes taken from the pipe at once.
_CHUNK: Final = 1 << 20
#: Milliseconds one wait for the pipe lasts at most; `poll` knows no more than 31 bits.
_MAX_WAIT: Final = 60_000
#: What native libraries print before they abort for want of memory: C++ and Rust.
_NO_MEMORY: Final = (b"bad_alloc", b"memory allocation of")
#: How native code ends itself when an allocation fails and it prints nothing, as pdfium does.
_ABORTS: Final = frozenset({-signal.SIGABRT, -signal.SIGILL, -signal.SIGTRAP, -signal.SIGSEGV})
#: Part of the memory allowed that such a child must have used; a buffer that doubles fails beyond half.
_MUCH: Final = 0.4
#: Pauses between two looks whether a child that closed its pipe has ended.
_BACKOFF: Final = Backoff(first_seconds=0.0005, longest_seconds=0.05)
#: Arguments for one call; `starmap` makes it in C, where no signal handler can come between.
_ONCE: Final = ((),)


def extract_sandboxed(
    path: Path,
    *,
    name: str,
    timeout_seconds: float,
    memory_bytes: int,
    progress: _Progress | None = None,
) -> Document:
    """Detect and extract a file in a child process.

    Whatever ends this call, an exception from `progress` or from a signal handler among it, the child
    is dead and reaped afterwards.

    Args:
        path: The file.
        name: What its sender called it.
        timeout_seconds: Wall-clock and CPU time the child may take.
        memory_bytes: Address space the child may take on top of what it inherits (Linux only).
        progress: Called in this process with (done, total), at most some ten times a second.

    Raises:
        BlobMissing: If there is no file.
        StorageUnavailable: If the blob store does not tell.
        FileError: If the file cannot be read; the subclass says why.
        ExtractionTimeout: If it takes too long.
        ExtractionCrashed: If the child dies or fails in a way that has no better name.
        MemoryLimitExceeded: If the child needs more memory.
    """
    try:
        is_there = path.is_file()
    except OSError as exc:
        raise StorageUnavailable(f"The stored bytes of {name} cannot be read: {exc.strerror}.") from exc
    if not is_there:
        raise BlobMissing(f"The stored bytes of {name} are gone.")
    deadline = time.monotonic() + timeout_seconds
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = _Child()
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        child.start(
            partial(
                serve,
                path=path,
                name=name,
                parent=os.getpid(),
                timeout_seconds=timeout_seconds,
                memory_bytes=memory_bytes,
            )
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        return _receive(child, name, deadline, memory_bytes, progress)
    finally:
        # Setting a mask runs the handlers of signals that came before, and those may raise.
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        finally:
            try:
                child.end()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


class _Child:
    """A forked process, the pipe it speaks into and the file that takes its standard error.

    Invariant: what has been opened or forked is recorded, and `end` undoes all of it.
    """

    def __init__(self) -> None:
        self._pids: list[int] = []
        self._descriptors: list[int] = []
        #: Most bytes it had resident beyond what this process has (Linux only), known once it has ended.
        self.grown_bytes = 0.0

    @property
    def pipe(self) -> int:
        """The end to read from."""
        return self._descriptors[1]

    def start(self, serve: Callable[[int, int], NoReturn]) -> None:
        """Fork; the child runs `serve` with the pipe's other end and the file for its report."""
        self._descriptors.extend(starmap(_scratch_file, _ONCE))
        self._descriptors.extend(chain.from_iterable(starmap(os.pipe, _ONCE)))
        self._pids.extend(starmap(os.fork, _ONCE))
        if not self._pids[0]:
            serve(self._descriptors[2], self._descriptors[0])
        os.close(self._descriptors.pop())

    def wait(self, deadline: float) -> int | None:
        """Return how the child ended, as `Popen.returncode`, None if it has not by the deadline."""
        looks = 0
        while True:
            pid, status, usage = os.wait4(self._pids[0], os.WNOHANG)
            if pid:
                self._pids.clear()
                self.grown_bytes = usage.ru_maxrss * 1024 - _resident_bytes()
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                return None
            looks += 1
            time.sleep(_BACKOFF.pause_seconds(looks))

    def report(self) -> bytes:
        """Return the end of what the child wrote to its standard error."""
        size = os.fstat(self._descriptors[0]).st_size
        return os.pread(self._descriptors[0], MAX_DETAIL, max(0, size - MAX_DETAIL))

    def end(self) -> None:
        """Kill and reap the child if there is one, and close what was opened."""
        # To the kernel, 0 would be this whole process group.
        for pid in filter(None, self._pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for descriptor in self._descriptors:
            os.close(descriptor)


def _scratch_file() -> int:
    """Open a file without a name."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("emberq-report")
    else:
        descriptor, path = tempfile.mkstemp()
        Path(path).unlink()
    return descriptor


def _resident_bytes() -> float:
    """Return what this process has in memory; infinitely much where a child's memory is not limited."""
    return resident_bytes() if sys.platform == "linux" else math.inf


def _receive(
    child: _Child, name: str, deadline: float, memory_bytes: int, progress: _Progress | None
) -> Document:
    for kind, body in _frames(child, name, deadline, memory_bytes):
        try:
            if kind == wire.RESULT:
                return wire.from_bytes(body)
            if kind == wire.ERROR:
                error = _error(json.loads(body))
                break
            done, total = wire.PROGRESS_BODY.unpack(body)
        except (ValueError, TypeError, LookupError, RecursionError) as exc:
            raise ExtractionCrashed(f"The program that reads {name} sent a malformed answer.") from exc
        if progress:
            progress(done, total)
    else:
        raise _death(child, name, deadline, memory_bytes)
    raise error


def _frames(
    child: _Child, name: str, deadline: float, memory_bytes: int
) -> Iterator[tuple[bytes, bytearray]]:
    """Yield frames until the child closes its end."""
    # A document cannot be larger than the memory it was made in.
    bounds = {wire.PROGRESS: wire.PROGRESS_BODY.size, wire.ERROR: _MAX_ERROR, wire.RESULT: memory_bytes}
    poll = select.poll()
    poll.register(child.pipe, select.POLLIN)
    received = bytearray()
    kind, needed = b"", wire.HEADER.size
    while True:
        while len(received) < needed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ExtractionTimeout(f"Reading {name} took longer than allowed.")
            if not poll.poll(min(math.ceil(left * 1000), _MAX_WAIT)):
                continue
            chunk = os.read(child.pipe, _CHUNK)
            if not chunk:
                return
            received += chunk
        if kind:
            body = received[:needed] if len(received) > needed else received
            received = received[needed:]
            yield kind, body
            kind, needed = b"", wire.HEADER.size
            continue
        kind, needed = wire.HEADER.unpack_from(received)
        del received[: wire.HEADER.size]
        if needed > bounds.get(kind, -1):
            raise ExtractionCrashed(f"The program that reads {name} sent a malformed answer.")


def _error(fields: dict[str, Any]) -> EmberqError:
    """Return the error the child describes.

    Raises:
        LookupError: If reading a file cannot end in that error; an engine that is away, say, would have
            the file wait for ever.
    """
    texts = {key: str(fields[key]) for key in ("code", "message", "hint", "detail")}
    error = error_for_code(texts["code"])
    if error not in _ANSWERS:
        raise LookupError("it is not for a reader to say so")
    detail = {"detail": texts["detail"]} if texts["detail"] else {}
    return error(texts["message"], hint=texts["hint"], **detail)


def _death(child: _Child, name: str, deadline: float, memory_bytes: int) -> EmberqError:
    """Return the error for a child that went without an answer."""
    status = child.wait(deadline)
    report = child.report()
    detail = report.decode("utf-8", "replace")
    if status is None or status == -signal.SIGXCPU:
        return ExtractionTimeout(f"Reading {name} took longer than allowed.")
    starved = status in _ABORTS and child.grown_bytes > _MUCH * memory_bytes
    if starved or status == EXIT_MEMORY or any(mark in report for mark in _NO_MEMORY):
        return MemoryLimitExceeded(f"Reading {name} needed more memory than allowed.", detail=detail)
    if status >= 0:
        return ExtractionCrashed(f"The program that reads {name} ended with status {status}.", detail=detail)
    try:
        ended_by = signal.Signals(-status).name
    except ValueError:
        ended_by = f"signal {-status}"
    return ExtractionCrashed(f"The program that reads {name} was ended by {ended_by}.", detail=detail)
