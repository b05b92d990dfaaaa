"""Upkeep of the slots: each is filled, refilled after a death, and moved over to a new generation."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emberq.system.processes import process_state
from emberq.telemetry.logs import get_logger
from emberq.worker.preloader.generations import Generation, Generations
from emberq.worker.preloader.preloader import PreloaderLost
from emberq.worker.supervisor.slots import Place, Slot, SlotProcess

log = get_logger(__name__)

#: Called when a worker process has died; takes the RQ worker's name.
OnDeath = Callable[[str], None]

#: Seconds a process may stay stopped by SIGSTOP before it is replaced: long enough to inspect it.
_STOPPED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """The end of a process.

    Attributes:
        slot: The slot that it was taken off.
        process: The process.
        place: Its place in the slot.
        status: Its wait status; that of SIGKILL where its preloader was lost.
    """

    slot: Slot
    process: SlotProcess
    place: Place
    status: int


class SlotUpkeep:
    """The decisions of a supervisor: which slot gets a process, and which process has to end.

    Invariant: one serving process per slot, or none while it is being replaced after a death.

    Attributes:
        slots: The slots, those of the services first.
        generations: The generations that their processes work with.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        generations: Generations,
        *,
        max_crashes: int,
        on_death: OnDeath | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the slots; `check` raises after `max_crashes` deaths of one slot in a row."""
        self.slots = slots
        self.generations = generations
        self._max_crashes = max_crashes
        self._on_death = on_death
        self._clock = clock

    def processes(self) -> list[SlotProcess]:
        """Return every process of every slot that has not ended."""
        return [one for slot in self.slots for one in slot.processes()]

    def all_serve(self) -> bool:
        """Tell whether there is a serving process in every slot."""
        return all(slot.current is not None and slot.current.is_ready for slot in self.slots)

    def fill(self) -> None:
        """Start a process in every empty slot whose delay is over."""
        newest = self.generations.newest
        for slot in self.slots:
            if newest is not None and slot.current is None and slot.may_start():
                slot.current = _try_start(slot, newest)

    def check(self) -> None:
        """Take note of deaths and readiness, and fill the empty slots.

        Raises:
            CrashLoop: If the processes of one slot died too often in a row.
        """
        for end in self.remove_ended():
            self._note_end(end)
        for slot in self.slots:
            for one in slot.processes():
                one.read_ready()
                self._end_if_stopped(slot, one)
        self.fill()

    def move_next_slot(self) -> None:
        """Take the next step of a reload: one slot after the other moves over to the newest generation."""
        newest = self.generations.newest
        for slot in self.slots:
            if newest is None or slot.current is None or slot.current.generation is newest:
                continue
            if slot.successor is None:
                if slot.may_start():
                    slot.successor = _try_start(slot, newest)
            elif slot.successor.is_ready:
                log.info("successor_promoted", process=slot.name, generation=newest.number)
                slot.promote_successor()
            # One slot at a time: memory for one more process is enough, and the others serve on.
            return

    def end_unused_generations(self) -> None:
        """End the generations that no slot works with any more."""
        self.generations.end_unused({one.generation for one in self.processes()})

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every process."""
        for one in self.processes():
            one.signal(number)

    def remove_ended(self) -> list[ProcessEnd]:
        """Take all ended processes off their slots and return them; no end is counted or reported."""
        statuses: dict[int, int] = {}
        for one in self.processes():
            if not one.is_preloader_child:
                with contextlib.suppress(ChildProcessError):
                    pid, status = os.waitpid(one.pid, os.WNOHANG)
                    if pid:
                        statuses[pid] = status
        statuses |= self.generations.poll_exits()
        return [
            ProcessEnd(slot, one, slot.remove(one), statuses.get(one.pid, signal.SIGKILL))
            for slot in self.slots
            for one in slot.processes()
            if one.pid in statuses or (one.is_preloader_child and one.generation.state == "lost")
        ]

    def _note_end(self, end: ProcessEnd) -> None:
        """Count and report an end that was not asked for."""
        slot, one = end.slot, end.process
        code = os.waitstatus_to_exitcode(end.status)
        if end.place == "draining" and code == 0:
            return
        log.warning("process_died", process=slot.name, process_pid=one.pid, status=code)
        if one.worker and self._on_death is not None:
            self._on_death(one.worker)
        if end.place == "successor":
            one.generation.note_failure()
        elif end.place == "current" and one.generation.state != "lost":
            delay = slot.note_crash(one, most=self._max_crashes)
            log.info("process_restarts", process=slot.name, in_seconds=delay, crashes=slot.crashes)

    def _end_if_stopped(self, slot: Slot, one: SlotProcess) -> None:
        """Kill a process that has been stopped by a signal for too long: it cannot react to SIGTERM."""
        if process_state(one.pid) != "T":
            one.stopped_since = None
            return
        now = self._clock()
        if one.stopped_since is None:
            one.stopped_since = now
        if now - one.stopped_since > _STOPPED_SECONDS:
            log.warning("process_stopped", process=slot.name, process_pid=one.pid, seconds=_STOPPED_SECONDS)
            one.signal(signal.SIGKILL)


def _try_start(slot: Slot, generation: Generation) -> SlotProcess | None:
    try:
        started = slot.start(generation)
    except (PreloaderLost, OSError) as exc:
        log.warning("start_failed", process=slot.name, error=type(exc).__name__)
        return None
    log.info("process_started", process=slot.name, process_pid=started.pid, generation=generation.number)
    return started
