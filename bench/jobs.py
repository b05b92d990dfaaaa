"""The jobs that are measured; imported by every worker, RQ's and the peers' alike."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["ballast", "fail", "mark", "noop", "stamp", "start_and_hang"]


def noop() -> None:
    """Do nothing."""


def mark(path: str) -> None:
    """Write the time (CLOCK_MONOTONIC, the same in every process) into a file that appears whole."""
    now = time.monotonic()
    hidden = Path(f"{path}.part")
    hidden.write_text(f"{now} {os.getpid()}")
    hidden.rename(path)


def stamp(path: str) -> None:
    """Append the time and the process to a file."""
    now = time.monotonic()
    with Path(path).open("a") as file:
        file.write(f"{now} {os.getpid()}\n")


def start_and_hang(path: str, seconds: float) -> None:
    """Say that the job runs, then wait to be killed."""
    mark(path)
    time.sleep(seconds)


def ballast(number: int) -> int:
    """Do a little of everything that could stay behind: memory, cycles, files, text."""
    block = bytearray(64 * 1024 + number % 7 * 4096)
    cycle: list[object] = [block]
    cycle.append(cycle)
    words = {f"word {index}": index * number for index in range(200)}
    with Path("/dev/null").open("w") as file:
        file.write(repr(words))
    return len(words)


def fail(number: int) -> None:
    """Raise, as some jobs do."""
    raise ValueError(f"job {number} fails on purpose")
