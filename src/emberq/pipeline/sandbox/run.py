"""Runs the extraction of a file in a confined child process, and receives the document from it.

The child sends messages through a pipe (`emberq.pipeline.sandbox.messages`). It parses hostile input, so
the parent trusts no message: bodies are numbers and JSON, never pickles, and their lengths are bounded.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

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
from emberq.pipeline.sandbox import messages
from emberq.pipeline.sandbox.child import EXIT_OUT_OF_MEMORY, read_and_exit
from emberq.pipeline.sandbox.child_handle import ChildProcess

_Progress: TypeAlias = Callable[[int, int], None]

#: The errors that a child may report.
_ALLOWED_ERRORS: Final = frozenset({*FileError.__subclasses__(), ExtractionCrashed, BlobMissing})
#: Most bytes of an error's JSON; it has a few sentences and a traceback.
_MAX_ERROR: Final = 256 * 1024
#: Bytes read from the pipe at once.
_CHUNK: Final = 1 << 20
#: Longest single wait for the pipe, in milliseconds; `poll` takes no more than 31 bits.
_MAX_WAIT: Final = 60_000
#: Messages that native libraries, in C++ and Rust, print before they abort because memory ran out.
_NO_MEMORY: Final = (b"bad_alloc", b"memory allocation of")
#: The signals by which native code ends when an allocation fails without a message, as pdfium does.
_ABORTS: Final = frozenset({-signal.SIGABRT, -signal.SIGILL, -signal.SIGTRAP, -signal.SIGSEGV})
#: Least share of the allowed memory that such a child has used: a buffer that doubles fails beyond half.
_MUCH: Final = 0.4


def extract_sandboxed(
    path: Path,
    *,
    name: str,
    timeout_seconds: float,
    memory_bytes: int,
    cpu_seconds: float | None = None,
    factor: float = 1.0,
    progress: _Progress | None = None,
) -> Document:
    """Detect and extract a file in a child process.

    However this call ends, also by an exception from `progress` or from a signal handler, the child is
    dead and reaped afterwards.

    Args:
        path: The file.
        name: The file's name, as its sender gave it.
        timeout_seconds: Most wall-clock time.
        memory_bytes: Most address space of the child besides the inherited one (Linux only).
        cpu_seconds: Most processor time of the child; as much as wall-clock time if left out.
        factor: The setting file_budget, for the limits on the text and on what is unpacked.
        progress: Called in this process with (done, total), at most about ten times a second.

    Raises:
        BlobMissing: If the file does not exist.
        StorageUnavailable: If the blob store does not work.
        FileError: If the file cannot be read; the subclass says why.
        ExtractionTimeout: If it takes too long.
        ExtractionCrashed: If the child dies, or fails in a way that no other error describes.
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
    child = ChildProcess()
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        child.start(
            partial(
                read_and_exit,
                path=path,
                name=name,
                parent=os.getpid(),
                cpu_seconds=timeout_seconds if cpu_seconds is None else cpu_seconds,
                memory_bytes=memory_bytes,
                factor=factor,
            )
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        return _receive(child, name, deadline, memory_bytes, progress)
    finally:
        # Setting the mask runs the handlers of pending signals, and a handler may raise.
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        finally:
            try:
                child.end()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _receive(
    child: ChildProcess, name: str, deadline: float, memory_bytes: int, progress: _Progress | None
) -> Document:
    for kind, body in _messages(child, name, deadline, memory_bytes):
        try:
            if kind == messages.RESULT:
                return messages.from_bytes(body)
            if kind == messages.ERROR:
                error = _reported_error(json.loads(body))
                break
            done, total = messages.PROGRESS_BODY.unpack(body)
        except (ValueError, TypeError, LookupError, RecursionError) as exc:
            raise ExtractionCrashed(f"The program that reads {name} sent a malformed answer.") from exc
        if progress:
            progress(done, total)
    else:
        raise _error_of_death(child, name, deadline, memory_bytes)
    raise error


def _messages(
    child: ChildProcess, name: str, deadline: float, memory_bytes: int
) -> Iterator[tuple[bytes, bytearray]]:
    """Yield the kinds and bodies of messages until the child closes its end of the pipe."""
    # A document cannot be larger than the memory of the process that made it.
    bounds = {
        messages.PROGRESS: messages.PROGRESS_BODY.size,
        messages.ERROR: _MAX_ERROR,
        messages.RESULT: memory_bytes,
    }
    poll = select.poll()
    poll.register(child.pipe, select.POLLIN)
    received = bytearray()
    kind, needed = b"", messages.HEADER.size
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
            kind, needed = b"", messages.HEADER.size
            continue
        kind, needed = messages.HEADER.unpack_from(received)
        del received[: messages.HEADER.size]
        if needed > bounds.get(kind, -1):
            raise ExtractionCrashed(f"The program that reads {name} sent a malformed answer.")


def _reported_error(fields: dict[str, Any]) -> EmberqError:
    """Return the error that the child reports.

    Raises:
        LookupError: If a child must not report that error. With "the database is away", for example, a
            hostile file could be retried for ever.
    """
    texts = {key: str(fields[key]) for key in ("code", "message", "hint", "detail")}
    error = error_for_code(texts["code"])
    if error not in _ALLOWED_ERRORS:
        raise LookupError("a child must not report this error")
    detail = {"detail": texts["detail"]} if texts["detail"] else {}
    return error(texts["message"], hint=texts["hint"], **detail)


def _error_of_death(child: ChildProcess, name: str, deadline: float, memory_bytes: int) -> EmberqError:
    """Return the error for a child that ended without an answer."""
    status = child.wait(deadline)
    report = child.report()
    detail = report.decode("utf-8", "replace")
    if status is None or status == -signal.SIGXCPU:
        return ExtractionTimeout(f"Reading {name} took longer than allowed.")
    out_of_memory = status in _ABORTS and child.grown_bytes > _MUCH * memory_bytes
    if out_of_memory or status == EXIT_OUT_OF_MEMORY or any(mark in report for mark in _NO_MEMORY):
        return MemoryLimitExceeded(f"Reading {name} needed more memory than allowed.", detail=detail)
    if status >= 0:
        return ExtractionCrashed(f"The program that reads {name} ended with status {status}.", detail=detail)
    try:
        ended_by = signal.Signals(-status).name
    except ValueError:
        ended_by = f"signal {-status}"
    return ExtractionCrashed(f"The program that reads {name} was ended by {ended_by}.", detail=detail)
