"""The body of a reader's child: confines itself, reads one file, answers and exits."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, NoReturn, TypeAlias

from emberq.errors import EmberqError, ExtractionCrashed
from emberq.pipeline.document import Document
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from emberq.pipeline.sandbox import messages
from emberq.pipeline.sandbox.confinement import Protections, confine_child
from emberq.system.processes import set_process_title

#: Least seconds between two progress messages; the horse records progress less often.
_PROGRESS_SECONDS: Final = 0.1

#: Reads a file into a document; takes its name, a function for progress, the setting file_budget, the
#: seconds of processor time for OCR, and whether hidden sheets and slides are read.
Read: TypeAlias = Callable[[BinaryIO, str, Callable[[int, int], None], float, float, bool], Document]


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One file to read.

    Attributes:
        file: Its descriptor, open for reading.
        answer: Descriptor of the pipe for messages to the horse.
        report: Descriptor of the pipe that becomes standard error.
        name: The file's name, as its sender gave it.
        cpu_seconds: Most processor time, without OCR.
        memory_bytes: Most address space besides the reader's (Linux only).
        factor: The setting file_budget, for the limits on the text and on what is unpacked.
        ocr_seconds: Most processor time for OCR; 0 to leave pictures out.
        hidden: Whether hidden sheets and slides are read.
    """

    file: int
    answer: int
    report: int
    name: str
    cpu_seconds: float
    memory_bytes: int
    factor: float
    ocr_seconds: float
    hidden: bool


def read_document(
    stream: BinaryIO,
    name: str,
    progress: Callable[[int, int], None],
    factor: float,
    ocr_seconds: float,
    hidden: bool,  # noqa: FBT001 - one of the arguments of `Read`
) -> Document:
    """Detect the type of a file and extract its text."""
    media_type = detect_stream(stream, name=name)
    return extract_stream(
        stream,
        media_type=media_type,
        progress=progress,
        factor=factor,
        ocr_seconds=ocr_seconds,
        hidden=hidden,
    )


def read_and_exit(
    request: FileRequest, protections: Protections, *, reader: int, address_space: int, read: Read
) -> NoReturn:
    """Read a file, send the document or an error, and exit, whatever happens.

    Args:
        request: The file.
        protections: What the system has to confine this process.
        reader: Id of the parent.
        address_space: Bytes of address space that this process has inherited.
        read: Reads the file, once this process is confined.
    """
    status = 1
    answer = request.answer
    try:
        os.dup2(request.report, 2)
        set_process_title("reader child")
        stream = open(request.file, "rb", closefd=False)  # noqa: SIM115 - a descriptor; it ends with the process
        confine_child(
            (request.file, answer),
            protections,
            reader=reader,
            cpu_seconds=request.cpu_seconds,
            ocr_seconds=request.ocr_seconds,
            address_space=address_space + request.memory_bytes,
        )
        try:
            document = read(
                stream,
                request.name,
                _ProgressSender(answer),
                request.factor,
                request.ocr_seconds,
                request.hidden,
            )
            messages.send(answer, messages.RESULT, *messages.to_bytes(document))
        except EmberqError as exc:
            _send_error(answer, exc)
        status = 0
    except MemoryError:
        status = messages.EXIT_OUT_OF_MEMORY
    except BaseException as exc:  # noqa: BLE001 - no exception may reach the forked copy of the reader's loop
        with contextlib.suppress(BaseException):
            crash = f"Reading {request.name} failed with {type(exc).__name__}."
            _send_error(answer, ExtractionCrashed(crash), exc)
    finally:
        os._exit(status)


class _ProgressSender:
    """Sends progress to the horse, at most ten times a second; the last message is always sent."""

    def __init__(self, answer: int) -> None:
        self._answer = answer
        self._sent_at = -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._sent_at < _PROGRESS_SECONDS:
            return
        self._sent_at = now
        messages.send(self._answer, messages.PROGRESS, messages.PROGRESS_BODY.pack(done, total))


def _send_error(answer: int, error: EmberqError, cause: BaseException | None = None) -> None:
    detail = "".join(traceback.format_exception(cause))[-messages.MAX_DETAIL :] if cause else ""
    messages.send(answer, messages.ERROR, json.dumps({**error.as_dict(), "detail": detail}).encode())
