"""Programs that tests start: their output in files, and nothing of them left when they have ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.harness.eventually import LIMIT_SECONDS, eventually, scaled
from tests.harness.process_table import alive, family_of, title_of

__all__ = ["RunningProgram", "run_program", "send"]

#: Seconds in which everything below a program has to end with it: one is promised, on a machine that is idle.
_ORPHAN_SECONDS = scaled(20.0)
#: Time limit of a program that ends by itself, on a machine of usual speed.
_RUN_SECONDS = 300.0


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def run_program(
    *command: str | Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return its exit code and what it wrote."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(_RUN_SECONDS),
        check=False,
        env=environment,
        cwd=cwd,
    )


class RunningProgram:
    """A program under test, running since this was made.

    As a context manager it stops the program at the end of the block. Its end fails the test if a process
    that it started is left or, unless it was killed, a temporary file of emberq.

    Attributes:
        pid: The process that was started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        printed: Path | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        has_input: bool = False,
    ) -> None:
        """Start it, in a session of its own.

        Args:
            command: Program and arguments.
            log: File to which its output is added.
            printed: File for its standard output, if that is to be apart from its standard error.
            environment: All of its environment variables; by default those of this process.
            cwd: Its working directory.
            has_input: Whether it reads what `write` sends it; otherwise its input is empty.
        """
        self._log, self._printed = log, printed or log
        self._code: int | None = None
        self._family: list[int] = []
        #: Whether a process of it was killed, which cannot remove its temporary files then.
        self.was_killed = False
        variables = dict(os.environ if environment is None else environment)
        self._temporary = Path(tempfile.mkdtemp(prefix="p"))
        self._temporary.chmod(0o1777)
        if variables.get("TMPDIR") == os.environ.get("TMPDIR"):
            variables["TMPDIR"] = str(self._temporary)
        with log.open("ab") as errors, self._printed.open("ab") as output:
            self._start = self._printed.stat().st_size
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=errors if printed is None else output,
                stderr=errors,
                env=variables,
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the process that was started has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; nothing while it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        """What the log file holds."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def printed(self) -> str:
        """What it has printed since it was started."""
        with self._printed.open("rb") as file:
            file.seek(self._start)
            return file.read().decode("utf-8", errors="replace")

    def family(self) -> list[int]:
        """Return the processes below it."""
        return family_of(self.pid)

    def wait_for_print(self, pattern: str, *, seconds: float = LIMIT_SECONDS) -> re.Match[str]:
        """Wait until its standard output has something, and return the match."""

        def look() -> re.Match[str] | None:
            has_ended = not self.is_running
            found = re.search(pattern, self.printed, re.MULTILINE)
            assert found or not has_ended, f"it ended with {self._process.returncode}\n{self.log[-4000:]}"
            return found

        found = eventually(look, seconds=seconds, told=lambda: self.log[-4000:])
        assert found is not None
        return found

    def records(self) -> list[dict[str, Any]]:
        """Return the JSON records of its log."""
        complete = self.log.rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith("{")]

    def wait_for_record(self, *, seconds: float = LIMIT_SECONDS, **fields: Any) -> dict[str, Any]:
        """Wait until its log has a record with these fields, and return the first one."""
        with self._log.open(encoding="utf-8", errors="replace") as file:
            rest = ""

            def look() -> dict[str, Any] | None:
                nonlocal rest
                *lines, rest = (rest + file.read()).split("\n")
                records = (json.loads(line) for line in lines if line.startswith("{"))
                return next((one for one in records if fields.items() <= one.items()), None)

            def told() -> str:
                return f"{fields} is missing in\n{self.log[-4000:]}"

            # A test may want to act in the middle of what the record tells of.
            found = eventually(look, seconds=seconds, told=told, longest_pause=0.002)
        assert found is not None
        return found

    def write(self, text: str) -> None:
        """Write to its standard input, and close that."""
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(text.encode())

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._family = self.family() or self._family
        self.was_killed |= number == signal.SIGKILL
        self._process.send_signal(number)

    def wait(self, *, seconds: float = LIMIT_SECONDS) -> int:
        """Wait until it ends by itself, and return its exit code.

        Raises:
            AssertionError: If it does not end, or if a process that it started outlives it.
        """
        if self._code is None:
            self._family = self.family() or self._family
            try:
                self._code = self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._end_all()
                raise AssertionError(f"It did not end within {seconds:g} s.\n{self.log[-4000:]}") from None
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                eventually(
                    lambda: alive(self._family),
                    lambda left: not left,
                    seconds=_ORPHAN_SECONDS,
                    told=lambda: str([title_of(pid) for pid in alive(self._family)]),
                )
                left = [path.name for path in self._temporary.glob("emberq-*")]
                assert self.was_killed or not left, f"temporary files are left: {left}"
            finally:
                self._end_all()
                shutil.rmtree(self._temporary, ignore_errors=True)
        return self._code

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = LIMIT_SECONDS) -> int:
        """Send it a signal unless it has ended, wait for its end, and return its exit code."""
        if self.is_running:
            self.send(number)
            # A process that stands still would not act on the signal.
            self._process.send_signal(signal.SIGCONT)
        return self.wait(seconds=seconds)

    def kill(self) -> None:
        """Send it SIGKILL and wait for its own end; what it started may still be ending then."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def _end_all(self) -> None:
        for pid in alive([*self._family, *self.family()]):
            send(pid, signal.SIGKILL)
        if self.is_running:
            self._process.kill()
            self._code = self._process.wait()
