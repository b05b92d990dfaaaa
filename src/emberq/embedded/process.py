"""The process of an engine: start it through the launcher, find it after a crash, stop it in bounded time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from emberq.embedded import launch
from emberq.errors import EmberqError, UnavailableError
from emberq.system.processes import process_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from emberq.embedded.account import Account
    from emberq.embedded.datadir import DataDirectory


#: Seconds an engine may take to answer after its start; a healthy one needs under two.
READY_SECONDS = 60.0

#: Seconds between two looks at a process that is starting or stopping.
_POLL_SECONDS = 0.02

#: Bytes of a log before it is renamed to `.1`; with its predecessor that bounds the disk it takes.
_LOG_LIMIT = 8 * 1024 * 1024

#: Lines of the log that an error quotes.
_TAIL_LINES = 12

#: Bytes at the log's end that are searched for those lines.
_TAIL_BYTES = 8192

_log = structlog.stdlib.get_logger(__name__)


class EngineExited(UnavailableError):
    """The engine ended by itself while it was starting."""


@dataclass(frozen=True, slots=True)
class StopStep:
    """One step of stopping: send a signal, then wait for the end.

    Attributes:
        number: The signal.
        seconds: How long to wait before the next step.
    """

    number: signal.Signals
    seconds: float


class EngineProcess:
    """The process of one engine and its traces in the data directory: `NAME.pid` and `log/NAME.log`.

    The kernel ends the engine when the *thread* that called `spawn` ends (PR_SET_PDEATHSIG), so spawn from
    the main thread. macOS has no such signal; there `stop_leftover` finds the engine after a crash.
    """

    def __init__(
        self,
        name: str,
        data: DataDirectory,
        steps: Sequence[StopStep],
        *,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Describe an engine that is not running yet.

        Args:
            name: Its name in file names and logs.
            data: The data directory, locked by this process.
            steps: How to stop it, SIGKILL last.
            death_signal: What the kernel sends it when its owner dies.
        """
        self.name = name
        self._data = data
        self._steps = tuple(steps)
        self._death_signal = death_signal
        self._owner = 0
        self._log_start = 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Pid of the running engine, None while there is none."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last engine (negative: the signal), None if it runs or never ran."""
        return None if self._child is None else self._child.poll()

    @property
    def log_path(self) -> Path:
        """The file with everything the engine wrote."""
        return self._data.path / "log" / f"{self.name}.log"

    def spawn(
        self, command: Sequence[str | Path], *, account: Account | None = None, needs: Sequence[Path] = ()
    ) -> None:
        """Start the engine in a process group of its own, so that the terminal's Ctrl-C does not reach it.

        In the same session: when the owner dies, the kernel then continues an engine that is stopped, which
        so gets its death signal.

        Args:
            command: Absolute path of the binary, and its arguments.
            account: The account to run under, None for this process's user.
            needs: Paths that the account must be able to reach.
        """
        self._data.make("log")
        self.bound_log()
        plan = self._plan(account, needs, pid_file=str(self._pid_file), death_signal=self._death_signal)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            # Not a context manager: the process is to outlive this call, and `stop` waits for it.
            self._child = subprocess.Popen(
                _launcher(plan, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                process_group=0,
            )
        self._owner = os.getpid()

    def run(
        self,
        command: Sequence[str | Path],
        *,
        account: Account | None = None,
        needs: Sequence[Path] = (),
        seconds: float,
        written: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the engine's tools to its end, under the same account; it ends with this process, too.

        Raises:
            subprocess.TimeoutExpired: If it takes longer than `seconds`.
        """
        return subprocess.run(
            _launcher(self._plan(account, needs, pid_file=""), command),
            input=written,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=_environment(),
            start_new_session=True,
            timeout=seconds,
            check=False,
        )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = READY_SECONDS) -> None:
        """Wait until the engine answers.

        Args:
            ready: Tells whether it does; called repeatedly.
            seconds: How long to wait; the engine is not stopped after that.

        Raises:
            EngineExited: If it ended.
            TimeoutError: If it did not answer in time.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.exit_code is not None:
                raise EngineExited(f"{self.name} ended with exit code {self.exit_code}.")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not answer within {seconds:.0f} s.")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the engine if it runs; does nothing in a fork of the owner."""
        if self._child is None or self._owner != os.getpid():
            return
        for step in self._steps:
            if self._child.poll() is not None:
                break
            self._child.send_signal(step.number)
            try:
                self._child.wait(step.seconds)
            except subprocess.TimeoutExpired:
                _log.warning("engine_stop_slow", engine=self.name, signal=step.number.name)
        if self._child.poll() == 0:
            # After any other end the engine's own lock may remain, and only this file tells that it is stale.
            self._pid_file.unlink(missing_ok=True)

    def stop_leftover(self) -> int | None:
        """Stop the engine that a dead owner left behind.

        A pid alone is not trusted: the process must also have started when the pid file says.

        Returns:
            The pid of an earlier engine that has ended, None if none is known.

        Raises:
            UnavailableError: If it cannot be stopped.
        """
        try:
            number, identity = self._pid_file.read_text(encoding="ascii").strip().split(" ", 1)
            pid = int(number)
        except (OSError, ValueError):
            return None
        for step in self._steps:
            if process_identity(pid) != identity:
                break
            _log.warning("engine_leftover_stopping", engine=self.name, pid=pid, signal=step.number.name)
            _signal(pid, step.number)
            deadline = time.monotonic() + step.seconds
            while process_identity(pid) == identity and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        else:
            if process_identity(pid) == identity:
                raise UnavailableError(
                    f"An earlier {self.name} (pid {pid}) does not stop.", hint=f"End {pid}."
                )
        return pid

    def log_tail(self) -> str:
        """Return the last lines the engine wrote since it was spawned."""
        try:
            with self.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start if self._log_start <= end else 0, end - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return _last_lines(text)

    def bound_log(self) -> None:
        """Move a log that has grown too long to `.1`; the engine goes on writing to the emptied file."""
        if not self.log_path.exists() or self.log_path.stat().st_size <= _LOG_LIMIT:
            return
        text = self.log_path.read_bytes()[-_LOG_LIMIT:]
        self.log_path.with_suffix(".log.1").write_bytes(text)
        os.truncate(self.log_path, 0)

    def failure(
        self, error: type[EmberqError], reason: str, tool: subprocess.CompletedProcess[str] | None = None
    ) -> EmberqError:
        """Return an error that quotes the engine's log, or a tool's output."""
        code = self.exit_code if tool is None else tool.returncode
        hint = f"The whole log is in {self.log_path}." if tool is None else "Or name a server by its URL."
        if code == launch.UNREACHABLE:
            hint = (
                "Choose a --data-dir and a Python environment that every user may enter, run emberq as an "
                "ordinary user, or give it CAP_DAC_READ_SEARCH."
            )
        tail = self.log_tail() if tool is None else _last_lines(tool.stdout + tool.stderr)
        return error(f"{reason} It says:\n{tail}" if tail else reason, hint=hint, engine=self.name)

    @property
    def _pid_file(self) -> Path:
        return self._data.path / f"{self.name}.pid"

    def _plan(
        self,
        account: Account | None,
        needs: Sequence[Path],
        *,
        pid_file: str,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> launch.LaunchPlan:
        return {
            "parent": os.getpid(),
            "death_signal": death_signal,
            "pid_file": pid_file,
            "account": None if account is None else (account.uid, account.gid),
            "needs": [str(path) for path in needs],
        }


def _launcher(plan: launch.LaunchPlan, command: Sequence[str | Path]) -> list[str | Path]:
    return [sys.executable, "-I", "-S", launch.__file__, json.dumps(plan), *command]


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _environment() -> dict[str, str]:
    """Return the engines' environment, without variables that change what they do (PGOPTIONS, TZ, LANG)."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as exc:
        raise UnavailableError(
            f"An engine of another user (pid {pid}) still uses the data directory.",
            hint=f"Stop process {pid} as its owner or as root.",
        ) from exc
