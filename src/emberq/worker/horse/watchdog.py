"""The watchdog: what the worker sees of a running job, and how it ends a horse that does not come on."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from emberq.system.messages import Message
from emberq.system.processes import descendants, process_state
from emberq.worker.job.policy import HorsePolicy

__all__ = ["DUMP_SIGNAL", "GIVEN_BACK", "HorseDeath", "StackFile", "Watchdog", "end_horse", "write_stacks_to"]

#: Makes a horse write down its stacks; handled in C, so it works while the interpreter is held.
DUMP_SIGNAL = signal.SIGUSR2
#: Seconds between SIGTERM and SIGKILL.
_TERM_SECONDS = 2.0
#: Seconds a stack dump may take.
_DUMP_SECONDS = 1.0
#: Seconds between two counts of a job's processes; a fork bomb makes some hundred meanwhile.
_COUNT_SECONDS = 0.25
#: Bytes of stacks that are kept, from their beginning: the current thread comes first.
_MAX_STACK_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class HorseDeath:
    """Why a horse ended in the middle of a job.

    Attributes:
        reason: `killed`, `stalled`, `process_limit`, `cpu_limit` or `given_back`, as in
            `emberq_horse_restarts_total`.
        message: The same as a sentence.
        stacks: The Python stacks of its threads, if they were taken.
    """

    reason: str
    message: str
    stacks: str = ""

    @classmethod
    def of_status(cls, status: int) -> Self:
        """Read a wait status."""
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGXCPU:
            return cls("cpu_limit", "The job used more processor time than allowed.")
        if code < 0:
            return cls("killed", f"The process that ran the job was ended by {signal.Signals(-code).name}.")
        return cls("killed", f"The process that ran the job ended with status {code}.")


#: The worker has to leave: nothing is wrong with the job.
GIVEN_BACK: Final = HorseDeath("given_back", "The worker was stopped; the job goes back to its queue.")


class StackFile:
    """A file for stack dumps that worker and horse both know; gone when the worker closes it."""

    def __init__(self) -> None:
        """Make the file."""
        descriptor, name = tempfile.mkstemp(prefix="emberq-stacks-")
        os.close(descriptor)
        self.path = Path(name)

    def dump(self, pid: int) -> str:
        """Have a process write its stacks and return them; says so if it does not answer.

        A stopped process is let go on for it.
        """
        before = self._size()
        was_stopped = process_state(pid) == "T"
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, DUMP_SIGNAL)
            if was_stopped:
                os.kill(pid, signal.SIGCONT)
        deadline = time.monotonic() + _DUMP_SECONDS
        size = before
        while time.monotonic() < deadline:
            time.sleep(0.02)
            now = self._size()
            if now > before and now == size:
                break
            size = now
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(before)
            stacks = file.read(_MAX_STACK_BYTES).decode("utf-8", "replace")
            head = "The process was stopped by a signal.\n" if was_stopped else ""
            return head + (stacks or "The process did not answer.")
        return ""

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _size(self) -> int:
        with contextlib.suppress(OSError):
            return self.path.stat().st_size
        return 0


def write_stacks_to(path: str) -> None:
    """In the horse: answer `DUMP_SIGNAL` with the stacks of all threads, written to `path`."""
    file = Path(path).open("a")  # noqa: SIM115 - faulthandler keeps it for the life of the process
    faulthandler.register(DUMP_SIGNAL, file=file, all_threads=True, chain=False)


@dataclass(slots=True)
class Watchdog:
    """One job as its worker sees it.

    Attributes:
        policy: What the job may do.
        progress_at: When the job began or last reported progress, on the monotonic clock.
        stage: What it was doing then.
    """

    policy: HorsePolicy
    progress_at: float = field(default_factory=time.monotonic)
    stage: str | None = None
    _counted_at: float = field(default_factory=time.monotonic)

    def note(self, frame: Message) -> None:
        """Take note of a progress report."""
        self.progress_at = time.monotonic()
        self.stage = frame.get("stage") or self.stage

    def wait_seconds(self, most: float) -> float:
        """Return how long the worker may sleep before it has to look again."""
        waits = [most]
        if self.policy.stall_timeout:
            waits.append(max(self.progress_at + self.policy.stall_timeout - time.monotonic(), 0.01))
        if self.policy.job_max_processes:
            waits.append(_COUNT_SECONDS)
        return min(waits)

    def verdict(self, pid: int) -> HorseDeath | None:
        """Return why the horse, process `pid`, has to end now, nothing if it may go on."""
        now = time.monotonic()
        if self.policy.stall_timeout and now - self.progress_at >= self.policy.stall_timeout:
            where = f" in stage {self.stage}" if self.stage else ""
            return HorseDeath(
                "stalled", f"The job made no progress for {now - self.progress_at:.0f} s{where}."
            )
        if self.policy.job_max_processes and now - self._counted_at >= _COUNT_SECONDS:
            self._counted_at = now
            count = 1 + len(descendants(pid, most=self.policy.job_max_processes))
            if count > self.policy.job_max_processes:
                return HorseDeath(
                    "process_limit", f"The job had more than {self.policy.job_max_processes} processes."
                )
        return None


def end_horse(pid: int, *, gently: bool) -> None:
    """End a horse and its process group: SIGTERM, then SIGKILL after two seconds.

    Args:
        pid: The horse, which leads its process group.
        gently: Whether it gets the two seconds.
    """
    if gently:
        _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_SECONDS
        while time.monotonic() < deadline and process_state(pid) not in ("", "Z"):
            time.sleep(0.02)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
