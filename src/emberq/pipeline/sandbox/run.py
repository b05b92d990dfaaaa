"""Reads a file in a child of the reader, and receives the document from it.

The child sends messages through a pipe (`emberq.pipeline.sandbox.messages`). It parses hostile input, so
the horse trusts no message: bodies are numbers and JSON, never pickles, and their lengths are bounded.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from emberq.pipeline.sandbox.reader_handle import ReaderHandle, close_reader, get_reader
from emberq.pipeline.sandbox.request import Ended, ReaderLost, Request

_Progress: TypeAlias = Callable[[int, int], None]

#: The errors that a child may report.
_ALLOWED_ERRORS: Final = frozenset({*FileError.__subclasses__(), ExtractionCrashed, BlobMissing})
#: Most bytes of an error's JSON; it has a few sentences and a traceback.
_MAX_ERROR: Final = 256 * 1024
#: Bytes read from a pipe at once.
_CHUNK: Final = 1 << 20
#: Longest single wait for the pipes, in milliseconds; `poll` takes no more than 31 bits.
_MAX_WAIT: Final = 60_000
#: Readers that may be lost over one file: the second may be the file's doing.
_MAX_LOST: Final = 2
#: Seconds that a reader may take to start a child; it needs milliseconds.
_START_SECONDS: Final = 30.0
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
    ocr_seconds: float = 0.0,
    hidden: bool = True,
    progress: _Progress | None = None,
) -> Document:
    """Detect and extract a file in a child of the reader.

    However this call ends, also by an exception from `progress` or from a signal handler, the reader kills
    the child if it still runs. If the reader is lost, another one reads the file.

    Args:
        path: The file.
        name: The file's name, as its sender gave it.
        timeout_seconds: Most wall-clock time.
        memory_bytes: Most address space of the child besides the inherited one (Linux only).
        cpu_seconds: Most processor time of the child; as much as wall-clock time if left out.
        factor: The setting file_budget, for the limits on the text and on what is unpacked.
        ocr_seconds: Most processor time for OCR, besides `cpu_seconds`; 0 to leave pictures out.
        hidden: Whether hidden sheets and slides are read.
        progress: Called in this process with (done, total), at most about ten times a second.

    Raises:
        BlobMissing: If the file does not exist.
        StorageUnavailable: If the blob store does not work.
        FileError: If the file cannot be read; the subclass says why.
        ExtractionTimeout: If it takes too long.
        ExtractionCrashed: If the child dies, or fails in a way that no other error describes.
        MemoryLimitExceeded: If the child needs more memory.
        InternalError: If no reader can be started.
    """
    deadline = time.monotonic() + timeout_seconds
    if cpu_seconds is None:
        cpu_seconds = timeout_seconds
    limits = _Limits(deadline, timeout_seconds, cpu_seconds, memory_bytes, factor, ocr_seconds, hidden)
    for _ in range(_MAX_LOST):
        try:
            return _extract(get_reader(), path, name, limits, progress)
        except ReaderLost:
            close_reader()
    raise ExtractionCrashed(f"The program that reads {name} was lost {_MAX_LOST} times.")


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one file may take: see `extract_sandboxed`; the deadline is a time of the monotonic clock."""

    deadline: float
    timeout_seconds: float
    cpu_seconds: float
    memory_bytes: int
    factor: float
    ocr_seconds: float
    hidden: bool


def _extract(
    reader: ReaderHandle, path: Path, name: str, limits: _Limits, progress: _Progress | None
) -> Document:
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    request = Request()
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            request.send(
                reader,
                path,
                name=name,
                cpu_seconds=limits.cpu_seconds,
                memory_bytes=limits.memory_bytes,
                factor=limits.factor,
                ocr_seconds=limits.ocr_seconds,
                hidden=limits.hidden,
            )
        except (FileNotFoundError, IsADirectoryError) as exc:
            raise BlobMissing(f"The stored bytes of {name} are gone.") from exc
        except OSError as exc:
            raise StorageUnavailable(f"The stored bytes of {name} cannot be read: {exc.strerror}.") from exc
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        return _receive(request, name, limits, progress)
    finally:
        # Setting the mask runs the handlers of pending signals, and a handler may raise.
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        finally:
            try:
                request.close()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _receive(request: Request, name: str, limits: _Limits, progress: _Progress | None) -> Document:
    pipes = _Pipes(request, name, limits)
    for kind, body in pipes.messages():
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
        raise _error_of_death(pipes.wait(), pipes.report, name, limits)
    raise error


class _Pipes:
    """What comes from a child and, about it, from the reader.

    Attributes:
        report: The end of what the child wrote to its standard error.
    """

    def __init__(self, request: Request, name: str, limits: _Limits) -> None:
        self._request = request
        self._name = name
        self._limits = limits
        self._started_by = time.monotonic() + _START_SECONDS
        self.report = b""
        self._poll = select.poll()
        for source in (request.answer, request.report, request.control.fileno()):
            self._poll.register(source, select.POLLIN)

    def messages(self) -> Iterator[tuple[bytes, bytearray]]:
        """Yield the kinds and bodies of messages until the child closes its end of the pipe or ends."""
        # A document cannot be larger than the memory of the process that made it.
        bounds = {
            messages.PROGRESS: messages.PROGRESS_BODY.size,
            messages.ERROR: _MAX_ERROR,
            messages.RESULT: self._limits.memory_bytes,
        }
        received = bytearray()
        kind, needed = b"", messages.HEADER.size
        while True:
            while len(received) < needed:
                chunk = self._read()
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
                raise ExtractionCrashed(f"The program that reads {self._name} sent a malformed answer.")

    def wait(self) -> Ended:
        """Wait for the child's end.

        Raises:
            ExtractionTimeout: If it runs at the deadline.
            MemoryLimitExceeded: If it has no memory and does not end.
        """
        while self._request.ended is None:
            self._step()
        # What it wrote last is in the pipe.
        while self._has(self._request.report) and self._take_report():
            continue
        return self._request.ended

    def _read(self) -> bytes:
        """Wait for bytes of the answer; return none if there will be no more."""
        while self._request.ended is None:
            if self._request.answer in self._step():
                break
        else:
            # A process that the child left behind, where the system cannot forbid it, may keep the pipe open.
            if not self._has(self._request.answer):
                return b""
        chunk = os.read(self._request.answer, _CHUNK)
        if not chunk:
            self._forget(self._request.answer)
        return chunk

    def _step(self) -> list[int]:
        """Wait for news and take in all but the answer; return the descriptors with news."""
        now = time.monotonic()
        if now >= self._limits.deadline:
            raise ExtractionTimeout(
                f"Reading {self._name} took more than its {self._limits.timeout_seconds:.0f} seconds."
            )
        if self._request.child is None and now >= self._started_by:
            raise ReaderLost
        readable = [source for source, _ in self._poll.poll(self._wait_milliseconds(now))]
        if self._request.report in readable:
            self._take_report()
        if self._request.control.fileno() in readable:
            self._request.take_news()
        return readable

    def _wait_milliseconds(self, now: float) -> int:
        until = self._limits.deadline
        if self._request.child is None:
            until = min(until, self._started_by)
        return min(math.ceil((until - now) * 1000), _MAX_WAIT)

    def _take_report(self) -> bool:
        """Read standard error; tells whether there may be more of it."""
        data = os.read(self._request.report, _CHUNK)
        if not data:
            self._forget(self._request.report)
        self.report = (self.report + data)[-messages.MAX_DETAIL :]
        # Such a child may hang: Rust's runtime waits for itself if it has no memory for its message.
        if any(mark in self.report for mark in _NO_MEMORY):
            raise _out_of_memory(self._name, self._limits, self.report)
        return bool(data)

    def _forget(self, source: int) -> None:
        """Wait no more for a pipe that is closed at its other end."""
        with contextlib.suppress(KeyError):
            self._poll.unregister(source)

    @staticmethod
    def _has(source: int) -> bool:
        poll = select.poll()
        poll.register(source, select.POLLIN)
        return bool(poll.poll(0))


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


def _out_of_memory(name: str, limits: _Limits, report: bytes) -> MemoryLimitExceeded:
    return MemoryLimitExceeded(
        f"Reading {name} needed more than its {limits.memory_bytes >> 20:,} MiB of memory.",
        detail=report.decode("utf-8", "replace"),
    )


def _error_of_death(ended: Ended, report: bytes, name: str, limits: _Limits) -> EmberqError:
    """Return the error for a child that ended without an answer."""
    status = ended.status
    detail = report.decode("utf-8", "replace")
    if status == -signal.SIGXCPU:
        return ExtractionTimeout(
            f"Reading {name} took more than its {limits.cpu_seconds:.0f} seconds of processor time."
        )
    out_of_memory = status in _ABORTS and ended.grown_bytes > _MUCH * limits.memory_bytes
    if out_of_memory or status == messages.EXIT_OUT_OF_MEMORY:
        return _out_of_memory(name, limits, report)
    if status >= 0:
        return ExtractionCrashed(f"The program that reads {name} ended with status {status}.", detail=detail)
    try:
        ended_by = signal.Signals(-status).name
    except ValueError:
        ended_by = f"signal {-status}"
    return ExtractionCrashed(f"The program that reads {name} was ended by {ended_by}.", detail=detail)
