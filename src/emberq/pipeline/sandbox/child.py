"""The body of the sandbox's child process: confines itself, reads one file, answers and exits."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import traceback
from pathlib import Path
from typing import Final, NoReturn

from emberq.errors import BlobMissing, EmberqError, ExtractionCrashed
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from emberq.pipeline.sandbox import messages
from emberq.pipeline.sandbox.confinement import confine
from emberq.system.processes import set_process_title

#: The exit status for "out of memory"; unlike a message it needs no memory.
EXIT_OUT_OF_MEMORY: Final = 77
#: Characters of a traceback or native crash report that are kept, from the end.
MAX_DETAIL: Final = 8 * 1024
#: Least seconds between two progress messages; the parent records progress less often.
_PROGRESS_SECONDS: Final = 0.1


def read_and_exit(
    pipe: int,
    report: int,
    *,
    path: Path,
    name: str,
    parent: int,
    cpu_seconds: float,
    memory_bytes: int,
    factor: float,
) -> NoReturn:
    """Read a file, send the document or an error, and exit, whatever happens.

    Args:
        pipe: Descriptor for messages to the parent.
        report: Descriptor that becomes standard error.
        path: The file.
        name: The file's name, as its sender gave it.
        parent: Id of the process that forked this one.
        cpu_seconds: Most processor time.
        memory_bytes: Most address space besides the inherited one (Linux only).
        factor: The setting file_budget.
    """
    status = 1
    try:
        os.dup2(report, 2)
        set_process_title("reader")
        confine(pipe, parent=parent, cpu_seconds=cpu_seconds, memory_bytes=memory_bytes)
        try:
            media_type = detect(path, name=name)
            document = extract(path, media_type=media_type, progress=_ProgressSender(pipe), factor=factor)
            messages.send(pipe, messages.RESULT, *messages.to_bytes(document))
        except EmberqError as exc:
            _send_error(pipe, exc)
        except FileNotFoundError:
            _send_error(pipe, BlobMissing(f"The stored bytes of {name} are gone."))
        status = 0
    except MemoryError:
        status = EXIT_OUT_OF_MEMORY
    except BaseException as exc:  # noqa: BLE001 - no exception may reach the forked copy of the parent's code
        with contextlib.suppress(BaseException):
            crash = f"Reading {name} failed with {type(exc).__name__}."
            _send_error(pipe, ExtractionCrashed(crash), exc)
    finally:
        os._exit(status)


class _ProgressSender:
    """Sends progress to the parent, at most ten times a second; the last message is always sent."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._sent_at = -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._sent_at < _PROGRESS_SECONDS:
            return
        self._sent_at = now
        messages.send(self._pipe, messages.PROGRESS, messages.PROGRESS_BODY.pack(done, total))


def _send_error(pipe: int, error: EmberqError, cause: BaseException | None = None) -> None:
    detail = "".join(traceback.format_exception(cause))[-MAX_DETAIL:] if cause else ""
    messages.send(pipe, messages.ERROR, json.dumps({**error.as_dict(), "detail": detail}).encode())
