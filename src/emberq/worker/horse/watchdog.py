"""The watchdog: finds jobs that go beyond their policy, and ends a horse that makes no progress."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from emberq.system.forks import close_in_children
from emberq.system.messages import Message
from emberq.system.processes import descendants, process_state
from emberq.worker.job.policy import HorsePolicy

#: Makes a horse write its stacks; handled in C, so that it works while a job blocks the interpreter.
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
        reason: `killed`, `stalled`, `process_limit`, `cpu_limit` or `requeued`, as in
            `emberq_horse_restarts_total`.
        message: The same as a sentence.
        stacks: The Python stacks of its threads, if they were dumped.
    """

    reason: str
    message: str
    stacks: str = ""

    @classmethod
    def of_status(cls, status: int) -> Self:
        """Return the reason that a wait status tells."""
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGXCPU:
            return cls("cpu_limit", "The job used more processor time than allowed.")
        if code < 0:
            return cls("killed", f"The process that ran the job was ended by {signal.Signals(-code).name}.")
        return cls("killed", f"The process that ran the job ended with status {code}.")


#: The worker has to leave; nothing is wrong with the job.
REQUEUED: Final = HorseDeath("requeued", "The worker was stopped; the job goes back to its queue.")


class StackFile:
    """A file without a name into which the horse writes its stacks and from which the worker reads them."""

    def __init__(self) -> None:
        self._file = close_in_children(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - kept

    def fileno(self) -> int:
        """Return its descriptor, which the worker sends to the horse."""
        return self._file.fileno()

    def dump(self, pid: int) -> str:
        """Have a process write its stacks and return them; says so if it does not answer.

        A stopped process is first resumed (SIGCONT).
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
        stacks = os.pread(self.fileno(), _MAX_STACK_BYTES, before).decode("utf-8", "replace")
        head = "The process was stopped by a signal.\n" if was_stopped else ""
        return head + (stacks or "The process did not answer.")

    def close(self) -> None:
        """Close the file; it is gone when the horse has ended, too."""
        self._file.close()

    def _size(self) -> int:
        return os.fstat(self.fileno()).st_size


def write_stacks_to(descriptor: int) -> None:
    """Answer `DUMP_SIGNAL`, in the horse, with the stacks of all threads, written to this file."""
    faulthandler.register(DUMP_SIGNAL, file=descriptor, all_threads=True, chain=False)


class Watchdog:
    """One job as its worker sees it: what it may do, and when it last made progress."""

    def __init__(self, policy: HorsePolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self._clock = clock
        #: When the job began or last reported progress, and the stage it was in.
        self._progress_at = self._counted_at = clock()
        self._stage: str | None = None

    def note_progress(self, message: Message) -> None:
        """Take note of a progress message."""
        self._progress_at = self._clock()
        self._stage = message.get("stage") or self._stage

    def wait_seconds(self, most: float) -> float:
        """Return how long the worker may sleep before it has to look again."""
        waits = [most]
        if self.policy.stall_timeout:
            waits.append(max(self._progress_at + self.policy.stall_timeout - self._clock(), 0.01))
        if self.policy.job_max_processes:
            waits.append(_COUNT_SECONDS)
        return min(waits)

    def verdict(self, pid: int) -> HorseDeath | None:
        """Return why the horse, process `pid`, has to end now, nothing if it may go on."""
        now = self._clock()
        silent_seconds = now - self._progress_at
        if self.policy.stall_timeout and silent_seconds >= self.policy.stall_timeout:
            where = f" in stage {self._stage}" if self._stage else ""
            return HorseDeath("stalled", f"The job made no progress for {silent_seconds:.0f} s{where}.")
        if self.policy.job_max_processes and now - self._counted_at >= _COUNT_SECONDS:
            self._counted_at = now
            count = 1 + len(descendants(pid, most=self.policy.job_max_processes))
            if count > self.policy.job_max_processes:
                return HorseDeath(
                    "process_limit", f"The job had more than {self.policy.job_max_processes} processes."
                )
        return None


def end_horse(pid: int, *, gently: bool) -> None:
    """End a horse and its process group: SIGTERM if `gently`, then SIGKILL after two seconds."""
    if gently:
        _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_SECONDS
        while time.monotonic() < deadline and process_state(pid) not in ("", "Z"):
            time.sleep(0.02)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
