"""The child's side of the sandbox: gives up what it does not need, reads one file, answers and exits."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Final, NoReturn

from emberq.errors import BlobMissing, EmberqError, ExtractionCrashed
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from emberq.pipeline.sandbox import wire
from emberq.system.memory import address_space_bytes
from emberq.system.processes import die_with_parent, set_process_title

__all__ = ["EXIT_MEMORY", "MAX_DETAIL", "serve"]

#: Exit status that says "out of memory" without allocating anything to say it.
EXIT_MEMORY: Final = 77
#: Characters of a traceback or native crash report that are kept, from their end.
MAX_DETAIL: Final = 8 * 1024
#: Bytes the child may write to any file; it needs only its crash report.
_MAX_FILE: Final = 1 << 20
#: Seconds between two progress frames; the parent writes them down more seldom still.
_PROGRESS_SECONDS: Final = 0.1


def serve(
    pipe: int, report: int, *, path: Path, name: str, parent: int, timeout_seconds: float, memory_bytes: int
) -> NoReturn:
    """Read a file, send the answer and exit, in every case.

    Args:
        pipe: Descriptor to send frames into.
        report: Descriptor that becomes standard error.
        path: The file.
        name: What its sender called it.
        parent: Id of the process that forked this one.
        timeout_seconds: CPU time to take at most.
        memory_bytes: Address space to take at most, on top of what was inherited (Linux only).
    """
    status = 1
    try:
        os.dup2(report, 2)
        set_process_title("reader")
        _confine(pipe, parent, timeout_seconds, memory_bytes)
        try:
            media_type = detect(path, name=name)
            document = extract(path, media_type=media_type, progress=_Reporter(pipe))
            wire.send(pipe, wire.RESULT, *wire.to_bytes(document))
        except EmberqError as exc:
            _send_error(pipe, exc)
        except FileNotFoundError:
            _send_error(pipe, BlobMissing(f"The stored bytes of {name} are gone."))
        status = 0
    except MemoryError:
        status = EXIT_MEMORY
    except BaseException as exc:  # noqa: BLE001 - nothing may reach the frames of the forked parent
        with contextlib.suppress(BaseException):
            crash = f"Reading {name} failed with {type(exc).__name__}."
            _send_error(pipe, ExtractionCrashed(crash), exc)
    finally:
        os._exit(status)


def _confine(pipe: int, parent: int, timeout_seconds: float, memory_bytes: int) -> None:
    """Take from this process what reading a file does not need. Timers do not survive a fork."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
    faulthandler.enable(file=2)
    seconds = math.ceil(timeout_seconds)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _MAX_FILE)
    _limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, address_space_bytes() + memory_bytes)


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Lower a limit; one that is lower already stays."""
    _, ceiling = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


class _Reporter:
    """Sends progress, but not more often than anybody looks; the end of it always."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._sent_at = -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._sent_at < _PROGRESS_SECONDS:
            return
        self._sent_at = now
        wire.send(self._pipe, wire.PROGRESS, wire.PROGRESS_BODY.pack(done, total))


def _send_error(pipe: int, error: EmberqError, cause: BaseException | None = None) -> None:
    detail = "".join(traceback.format_exception(cause))[-MAX_DETAIL:] if cause else ""
    wire.send(pipe, wire.ERROR, json.dumps({**error.as_dict(), "detail": detail}).encode())
