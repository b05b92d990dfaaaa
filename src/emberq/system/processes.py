"""What the runtime needs from the operating system: dying with one's parent, memory, threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import signal
import sys
from pathlib import Path

__all__ = [
    "RewrittenVariable",
    "count_threads",
    "descendants",
    "die_with_parent",
    "freeze_objects",
    "private_memory_bytes",
    "process_state",
    "return_big_blocks",
    "set_process_title",
    "thread_names",
]

#: prctl(2): the signal to get when the parent thread ends.
_PR_SET_PDEATHSIG = 1

#: mallopt(3): the size from which a block is mapped on its own, and that size in bytes, glibc's own at first.
_M_MMAP_THRESHOLD = -3
_BIG_BLOCK_BYTES = 128 * 1024


@functools.cache
def _c_library() -> ctypes.CDLL:
    # Each one opened has classes of its own, which stay until the garbage collector comes.
    return ctypes.CDLL(None)


class RewrittenVariable:
    """An environment variable that gets value after value, for `os.environ` and for child processes.

    setenv(3), which is under `os.environ`, keeps each string that it was ever given. A value per job left
    80 bytes behind for each, and these lay so that the heap grew by 19 KB and a page per job
    (docs/decisions/0015-local-models-and-forks.md). putenv(3) takes the caller's own string, which is
    written over here.
    """

    def __init__(self, name: str) -> None:
        """Take a name; nothing is set yet."""
        self._key = os.fsencode(name)
        self._entry = ctypes.create_string_buffer(1)

    def set(self, value: str) -> None:
        """Give it this value.

        Raises:
            ValueError: If the value has a null character.
        """
        raw = os.fsencode(value)
        if b"\0" in raw:
            raise ValueError("an environment variable cannot hold a null character")
        entry = b"%s=%s" % (self._key, raw)
        if len(entry) >= len(self._entry):
            self._entry = ctypes.create_string_buffer(2 * len(entry))
            # For good: the environment is also read when Python has taken back its memory to end.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._entry))
        self._entry.value = entry
        _c_library().putenv(self._entry)
        vars(os.environ)["_data"][self._key] = raw


def return_big_blocks() -> None:
    """Make big blocks go back to the system whenever they are freed, here and in what is forked.

    glibc raises its limit to the biggest block it has seen freed, 32 MB at most, and puts what is
    smaller into the heap, from which a process returns little. A model that was loaded before the fork
    has raised it for every horse. Does nothing where the C library has no such limit.
    """
    with contextlib.suppress(AttributeError, OSError):
        _c_library().mallopt(_M_MMAP_THRESHOLD, _BIG_BLOCK_BYTES)


def freeze_objects() -> None:
    """Keep the garbage collector from all objects there are, here and in what is forked.

    It writes to every object it looks at, so each fork would get a copy of all of them.
    """
    gc.freeze()
    # CPython puts a full collection off until the objects that are new to it are a quarter of those that the
    # last one left. Without one of nothing, that would be a quarter of the frozen ones: some hundred
    # thousand objects of garbage in every horse.
    gc.collect()


def die_with_parent(parent_pid: int, *, with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to end this process when its parent ends; call it in the child.

    Does nothing where the kernel cannot (macOS). The signal follows the parent's forking thread, so
    parents fork from their main thread.

    Args:
        parent_pid: The parent as the child was told before the fork; if it is gone already, this
            process ends at once.
        with_signal: What to be ended with.
    """
    if sys.platform == "linux":
        _c_library().prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def private_memory_bytes(pid: int | None = None) -> int:
    """Return the memory only this process has (USS), 0 where the system does not tell."""
    path = Path(f"/proc/{pid or 'self'}/smaps_rollup")
    with contextlib.suppress(OSError):
        return sum(
            int(line.split()[1]) * 1024
            for line in path.read_text().splitlines()
            if line.startswith(("Private_Clean:", "Private_Dirty:"))
        )
    return 0


def count_threads() -> int:
    """Return the number of threads of this process, native ones included; 0 where it is not told."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - a Path per entry is slow in a hot path
    return 0


def process_state(pid: int) -> str:
    """Return the state of a process as `/proc` has it (`R`, `S`, `T` …), nothing where it is not told."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return ""


def descendants(pid: int, *, most: int) -> list[int]:
    """Return the processes below a process, at most one more than `most`; none where it is not told."""
    found: list[int] = []
    pending = [pid]
    while pending and len(found) <= most:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208 - often called, must be quick
                children = Path(f"/proc/{parent}/task/{task}/children").read_text().split()
                found.extend(int(child) for child in children)
                pending.extend(int(child) for child in children)
    return found


def thread_names() -> list[str]:
    """Return the names of this process's threads besides the main one, native ones included."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if task.name != str(os.getpid()):
                found.append((task / "comm").read_text().strip())
    return found


def set_process_title(title: str) -> None:
    """Set what `ps` shows for this process: `emberq: ` and the title, which must hold no secret."""
    from setproctitle import setproctitle

    setproctitle(f"emberq: {title}")
