"""The programs under attack, each kept alive as a process manager would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from emberq.embedded.launch import ending_with_this_process
from tests.harness.eventually import scaled
from tests.harness.paths import EMBERQ
from tests.harness.process_table import alive, family_of
from tests.harness.processes import RunningProgram, send

__all__ = ["RESTART_SECONDS", "Program"]

#: Seconds between a death and the restart of a program, as with a process manager.
RESTART_SECONDS = 0.3
#: Seconds a program may take to leave when it is asked to.
_STOP_SECONDS = scaled(60.0)


class Program:
    """One `emberq serve` or `emberq worker`, started again whenever it has died.

    Invariant: after `stop` neither it nor any process below it is left.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        prefix: Sequence[str] = (),
        pause_seconds: float = RESTART_SECONDS,
    ) -> None:
        """Describe a program.

        Args:
            name: What the report calls it.
            arguments: What follows `emberq` on its command line.
            log: Where its records go; what it prints goes beside it, to `.out`.
            environment: Its variables besides our own.
            prefix: A command that runs it, such as `unshare`, by its absolute path.
            pause_seconds: How long it is left dead.
        """
        self.name = name
        self.log = log
        # The launcher wants an absolute path: a prefix has one too.
        self._command = [*prefix, EMBERQ, *arguments]
        kept = {
            variable: value
            for variable, value in os.environ.items()
            if not variable.startswith("EMBERQ_") or variable == "EMBERQ_MODELS_DIR"
        }
        # Restarts find compiled modules, as those of an installed program would.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        # The same one for all its starts, so that each finds what killed ones have left.
        temporary = log.with_name(f"{name}-tmp")
        temporary.mkdir()
        temporary.chmod(0o1777)
        own = {"PYTHONPYCACHEPREFIX": str(log.with_name("compiled")), "TMPDIR": str(temporary)}
        self._environment = {**kept, **own, "EMBERQ_LOG_FORMAT": "json", **environment}
        self._running: RunningProgram | None = None
        self._family: list[int] = []
        self._died_at: float | None = None
        self._pause_seconds = pause_seconds
        #: How often it ended by itself, as it does if it cannot start.
        self.exits = 0
        #: How often it was started.
        self.starts = 0
        #: Whether it is left alone when it dies.
        self.is_gone_for_good = False

    @property
    def pid(self) -> int:
        """The main process, 0 while there is none."""
        return self._running.pid if self._running is not None and self._running.is_running else 0

    def processes(self) -> list[int]:
        """Return the main process and everything below it."""
        return [self.pid, *family_of(self.pid)] if self.pid else []

    def start(self) -> None:
        """Start it; it ends with the thread that calls this."""
        self._running = RunningProgram(
            ending_with_this_process(self._command),
            log=self.log,
            printed=self.log.with_suffix(".out"),
            environment=self._environment,
        )
        # Its processes are attacked, and those cannot remove their temporary files.
        self._running.was_killed = True
        self._died_at = None
        self.starts += 1

    @property
    def printed(self) -> str:
        """What it has printed since its last start."""
        return self._running.printed if self._running is not None else ""

    def ensure_ready(self) -> None:
        """Start it again if it has been dead for as long as it is left so."""
        if self.pid:
            self._family = self.processes()
            return
        if self.is_gone_for_good:
            return
        if self._died_at is None:
            self._died_at = time.monotonic()
            self.exits += self._running is not None and self._running.exit_code != -signal.SIGKILL
        if time.monotonic() - self._died_at >= self._pause_seconds:
            self.start()

    def stop(self) -> None:
        """Ask it to leave, and end whatever is left of it."""
        if self._running is None:
            return
        family = self.processes() or self._family
        for pid in family:
            send(pid, signal.SIGCONT)
        try:
            self._running.stop(seconds=_STOP_SECONDS)
        finally:
            for pid in alive(family):
                send(pid, signal.SIGKILL)
