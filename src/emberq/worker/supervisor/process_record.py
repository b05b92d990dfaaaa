"""The processes of a supervisor in a file, so that the next start finds what remains of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from emberq.system.machine import machine_identity
from emberq.system.processes import process_identity

#: Where the records are, below the data directory.
_DIRECTORY = "processes"
#: Seconds in which what remains may end by itself: the kernel has told it to.
_PATIENCE_SECONDS = 1.0
#: Seconds until a process that was sent SIGKILL has ended; the kernel needs milliseconds.
_KILL_SECONDS = 5.0
#: Seconds between two looks meanwhile.
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A process, known by its id and what `process_identity` said of it."""

    pid: int
    identity: str

    @property
    def is_alive(self) -> bool:
        return process_identity(self.pid) == self.identity


class ProcessRecord:
    """The file with this process and those that it has started."""

    def __init__(self, data_dir: Path) -> None:
        """Record in a data directory, which hosts may share; nothing is written yet."""
        self._path = data_dir / _DIRECTORY / f"{socket.gethostname()}-{os.getpid()}.json"
        self._owner = _Recorded(os.getpid(), process_identity(os.getpid()) or "")
        self._started: list[_Recorded] = []

    def add(self, pid: int) -> None:
        """Record a process that was started just now; those that have ended are left out from then on."""
        identity = process_identity(pid)
        if identity is None:
            return
        self._started = [*(one for one in self._started if one.is_alive), _Recorded(pid, identity)]
        text = {
            "machine": machine_identity(),
            "processes": [(one.pid, one.identity) for one in (self._owner, *self._started)],
        }
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(text), encoding="utf-8")
        written.replace(self._path)

    def remove(self) -> None:
        """Delete the file, when all that was started has ended."""
        self._path.unlink(missing_ok=True)


def end_remains(data_dir: Path) -> list[int]:
    """End what remains of dead supervisors of a data directory; returns the process ids.

    It may still hold their ports. It is given a second to end by itself. A process is known by its id and its
    start, so no other one is hit. Records of other machines, and of supervisors that live, are left alone.
    """
    remains: list[_Recorded] = []
    for path, processes in _records(data_dir / _DIRECTORY):
        owner, *started = processes
        if owner.is_alive:
            continue
        remains += started
        path.unlink(missing_ok=True)
    remains = [one for one in remains if one.is_alive]
    if not _wait(remains, _PATIENCE_SECONDS):
        for one in remains:
            _kill(one)
        _wait(remains, _KILL_SECONDS)
    return [one.pid for one in remains]


def _records(directory: Path) -> Iterator[tuple[Path, list[_Recorded]]]:
    for path in directory.glob(f"{socket.gethostname()}-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            text = json.loads(path.read_text(encoding="utf-8"))
            processes = [_Recorded(int(pid), str(identity)) for pid, identity in text["processes"]]
            if processes and text["machine"] == machine_identity():
                yield path, processes


def _wait(processes: list[_Recorded], seconds: float) -> bool:
    """Wait until the processes have ended, and tell whether they have."""
    deadline = time.monotonic() + seconds
    while any(one.is_alive for one in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _kill(process: _Recorded) -> None:
    with contextlib.suppress(OSError), _signaller(process.pid) as send:
        # Looked at once more: by now the descriptor stands for this process, even if the id is given again.
        if process.is_alive:
            send(signal.SIGKILL)


@contextlib.contextmanager
def _signaller(pid: int) -> Iterator[Callable[[signal.Signals], None]]:
    if not hasattr(os, "pidfd_open"):
        yield lambda number: os.kill(pid, number)
        return
    descriptor = os.pidfd_open(pid)
    try:
        yield lambda number: signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
