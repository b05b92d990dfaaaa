"""Jobs that leave things behind, and what they find of their predecessors."""

from __future__ import annotations

import contextvars
import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from emberq import connection, resource

NOTES = Path(os.environ["LEAVING_JOBS_NOTES"])
URL = os.environ["LEAVING_JOBS_REDIS"]

mood: contextvars.ContextVar[str] = contextvars.ContextVar("leaving_jobs_mood")


def note(line: str) -> None:
    with NOTES.open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


@resource
def model() -> Iterator[int]:
    note("loaded")
    yield os.getpid()
    note("closed")


@resource(lazy=True)
def dictionary() -> Iterator[int]:
    """Loaded by the first job that asks; keeps a file open, which is no leak of that job."""
    with Path(__file__).open() as file:
        note("lazy loaded")
        yield file.fileno()
    note("lazy closed")


@connection
def cache() -> Iterator[Redis]:
    note("opened")
    client = Redis.from_url(URL)
    yield client
    # Long enough for a worker that does not wait to be gone by then.
    time.sleep(0.5)
    client.close()
    note("hung up")


def where() -> list[int]:
    return [os.getpid(), model()]


def frozen() -> list[int]:
    """Return how many objects the collector leaves alone, and how many threads were inherited."""
    return [gc.get_freeze_count(), len(list(Path("/proc/self/task").iterdir()))]


def leave(kind: str) -> int:
    """Leave a child or a temporary file, which can be cleaned up."""
    if kind == "child":
        subprocess.Popen(["sleep", "300"])
    elif kind == "forked":
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "300"])
    else:
        descriptor, _ = tempfile.mkstemp()
        os.close(descriptor)
    return os.getpid()


def look() -> list[object]:
    """Return children, temporary files, the context variable and other horses' directories as found."""
    children = Path("/proc/self/task").joinpath(str(os.getpid()), "children").read_text().split()
    own = Path(tempfile.gettempdir())
    others = [path.name for path in own.parent.iterdir() if path != own and path.name.isdigit()]
    return [children, [path.name for path in own.iterdir()], mood.get("none"), others]


def be(feeling: str) -> str:
    before = mood.get("none")
    mood.set(feeling)
    return before


def fill_and_die() -> str:
    """Fill the temporary directory and be killed over it."""
    Path(tempfile.gettempdir(), "large").write_bytes(b"x" * 1_000_000)
    note(f"temporary {tempfile.gettempdir()}")
    os.kill(os.getpid(), 9)
    return "unreachable"


def use_everything() -> list[int]:
    """Use the lazy resource and the connection; both stay open."""
    cache().incr("tests.jobs.leaving")
    return [os.getpid(), dictionary()]
