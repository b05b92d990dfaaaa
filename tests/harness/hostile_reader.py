"""Readers whose children run their file as a program: the stand-in for an exploit of a parser.

`main` is a reader as in production, but for what a child does with its file, once it is confined.
`tests.harness.unconfined_reader` leaves the confinement out, to show that the same program succeeds then.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from emberq.pipeline.document import Document
from emberq.pipeline.sandbox import reader

LIBC = ctypes.CDLL(None, use_errno=True)
#: What a program may use without an import, which needs files.
NAMES: dict[str, Any] = {
    module.__name__: module
    for module in (
        ctypes,
        errno,
        json,
        mmap,
        os,
        re,
        resource,
        signal,
        socket,
        struct,
        subprocess,
        sys,
        threading,
        time,
    )
}


def call(function: str, *arguments: Any) -> int:
    """Call a function of the C library.

    Raises:
        OSError: If it fails.
    """
    result = int(getattr(LIBC, function)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def run_file(
    stream: BinaryIO,
    name: str,
    progress: Callable[[int, int], None],
    _factor: float,
    _ocr_seconds: float,
    _hidden: bool,
) -> Document:
    """Run a program; the document's text is JSON: what it left in `found`, or the error that refused it."""
    scope = {**NAMES, "Path": Path, "call": call, "progress": progress, "stream": stream, "found": None}
    told: dict[str, Any]
    try:
        exec(compile(stream.read(), name, "exec"), scope)
        told = {"found": scope["found"]}
    except (OSError, RuntimeError, ValueError, ImportError) as exc:
        told = {"refused": type(exc).__name__, "number": getattr(exc, "errno", None)}
    return Document(json.dumps(told), "text/plain", ())


def main(descriptor: int, owner: int) -> NoReturn:
    """Be a reader; its children run programs."""
    reader.main(descriptor, owner, read=run_file)
