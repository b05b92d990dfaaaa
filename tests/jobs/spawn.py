"""Resources that do not survive a fork, and jobs that use them in real workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emberq import resource

NOTES = Path(os.environ["SPAWN_JOBS_NOTES"])


def note(line: str) -> None:
    with NOTES.open("a") as file:
        file.write(f"{line}\n")


@resource
def vocabulary() -> int:
    note(f"vocabulary {os.getpid()}")
    return os.getpid()


@resource(fork_safe=False)
def engine() -> Iterator[ThreadPoolExecutor]:
    """Like a GPU runtime: its threads and state belong to the process that made them."""
    if os.environ.get("SPAWN_JOBS_BROKEN"):
        msg = "no card found"
        raise OSError(msg)
    executor = ThreadPoolExecutor(2, "engine")
    executor.submit(threading.get_ident).result()
    note(f"engine {os.getpid()}")
    yield executor
    executor.shutdown()
    note(f"closed {os.getpid()}")


def compute(number: int) -> list[int]:
    """Have the engine's threads compute; in a forked child nobody would answer."""
    square = engine().submit(lambda: number * number).result(timeout=20)
    return [square, os.getpid(), vocabulary()]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def look() -> dict[str, object]:
    """Tell how this process was started."""
    return {
        "parent": os.getppid(),
        "group": os.getpgrp() == os.getpid(),
        "command": sys.orig_argv,
        "title": Path("/proc/self/cmdline").read_text().strip("\0"),
        "environment": [value for value in os.environ.values() if "hidden" in value],
    }
