"""The killer: carries out the kills of a plan and measures what becomes of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign.plan import Action
from tests.chaos.campaign.programs import Program
from tests.chaos.campaign.recovery import Need, Recovery, latest
from tests.chaos.campaign.system import System
from tests.chaos.campaign.witness import InHand, Witness
from tests.harness.eventually import eventually, scaled
from tests.harness.process_table import alive, family_of, title_of

__all__ = ["Anatomy", "Killer", "Outcome", "anatomy_of"]

#: Seconds a victim may take to be there: it may be on its way back from the kill before.
_VICTIM_SECONDS = scaled(90.0)
#: The share of kills of `up` at which both of its engines are down.
_BOTH = 0.4
#: Most seconds from the kill of its engines to its own: by then it has noticed, and starts them again.
_RESTART_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done and what came of it.

    Attributes:
        action: As planned.
        at: Monotonic seconds at which it was done.
        recovery_seconds: From there until everything it had interrupted ran again; nothing if that took
            too long. Faults that end are counted from their end.
        interrupted: Jobs that were in the victim's hands.
        detail: What there is to say about it.
        taken_up_seconds: From there until the interrupted jobs alone ran again or were over.
    """

    action: Action
    at: float
    recovery_seconds: float | None
    interrupted: int
    detail: str = ""
    taken_up_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The processes of one host."""

    supervisor: int
    preloader: int
    slots: list[int]
    horses: list[int]
    readers: list[int]

    def everything(self) -> list[int]:
        """Return all of them, from the top."""
        return [self.supervisor, self.preloader, *self.slots, *self.horses, *self.readers]


def anatomy_of(host: Program) -> Anatomy | None:
    """Return a host's processes once it is complete: a preloader, and a horse for each slot."""
    if not host.pid:
        return None
    below = {pid: title_of(pid) for pid in _children(host.pid)}
    preloaders = [pid for pid, title in below.items() if title.startswith("emberq: preloader")]
    slots = sorted(pid for pid, title in below.items() if title.startswith("emberq: worker"))
    forked = {pid: title_of(pid) for pid in _children(preloaders[-1])} if preloaders else {}
    # A horse that finds the preloader's reader dead starts one of its own.
    readers = [pid for pid in family_of(host.pid) if title_of(pid).rstrip() == "emberq: reader"]
    horses = sorted(pid for pid, title in forked.items() if title.startswith("emberq: horse"))
    if not slots or len(horses) < len(slots):
        return None
    return Anatomy(host.pid, preloaders[-1], slots, horses, readers)


class Killer:
    """Kills what an action names and waits until all of its work goes on."""

    def __init__(self, system: System, witness: Witness, recovery: Recovery) -> None:
        """Kill parts of a system."""
        self._system = system
        self._witness = witness
        self._recovery = recovery

    def kill(self, action: Action) -> Outcome:
        """Carry out one kill."""
        if action.what == "api":
            return self._kill_api(action)
        if action.what in ("valkey", "postgres"):
            return self._kill_engine(action)
        if action.what == "up":
            return self._kill_up(action)
        if action.what == "everything":
            return self._kill_everything(action)
        return self._kill_in_host(action)

    def anatomy(self, host: Program) -> Anatomy:
        """Return a host's processes, waiting for it to be complete.

        Raises:
            TooLate: If it does not become so.
        """
        anatomy = eventually(
            lambda: anatomy_of(host),
            seconds=_VICTIM_SECONDS,
            told=lambda: f"{host.name} has no complete set of processes: {host.processes()}.",
        )
        assert anatomy is not None
        return anatomy

    def slot_of(self, horse: int) -> int:
        """Return the worker that a horse last had a job from, 0 if it never had one."""
        for event in reversed(self._witness.events):
            if event.name == "job_started" and event.fields["horse_pid"] == horse:
                return int(str(event.fields["worker"]).rsplit("-", 1)[1])
        return 0

    def _kill_api(self, action: Action) -> Outcome:
        victims = self._system.api.processes()
        return self._measure(action, victims, [], lambda at: [self._recovery.acknowledges(since=at)])

    def _kill_engine(self, action: Action) -> Outcome:
        pid = self._system.engine_pid(action.what)

        def needs(at: float) -> list[Need]:
            replaced = self._recovery.is_replaced(action.what, pid=pid)
            return [replaced, *([self._recovery.acknowledges(since=at)] if action.what == "postgres" else [])]

        return self._measure(action, [pid], self._witness.in_hand(), needs)

    def _kill_up(self, action: Action) -> Outcome:
        """Kill `emberq up` while an engine of its restarts: its workers then wait in different loops."""
        up = self._system.up
        eventually(self._recovery.serves_again(killed=0), seconds=_VICTIM_SECONDS, told=lambda: up.printed)
        for engine in ("valkey", "postgres") if action.place < _BOTH else (_pick_engine(action),):
            self._system.kill([self._system.engine_pid(engine, of="up")])
        time.sleep(action.place * _RESTART_SECONDS)
        pid = up.pid
        return self._measure(action, [pid], [], lambda _at: [self._recovery.serves_again(killed=pid)])

    def _kill_everything(self, action: Action) -> Outcome:
        engines = [self._system.engine_pid(name) for name in ("valkey", "postgres")]
        family = [pid for engine in engines for pid in (engine, *family_of(engine))]
        family += [pid for program in self._system.programs for pid in program.processes()]

        def needs(at: float) -> list[Need]:
            hosts = [self._recovery.starts_a_job(host, since=at + 0.1) for host in self._system.hosts]
            return [*hosts, self._recovery.acknowledges(since=at)]

        return self._measure(action, family, self._witness.in_hand(), needs)

    def _kill_in_host(self, action: Action) -> Outcome:
        host = self._system.hosts[action.host]
        anatomy = self.anatomy(host)
        if action.what == "reader":
            return self._kill_reader(action, host)
        victims, slots = self._victims(action, anatomy)
        interrupted = [job for job in self._witness.in_hand() if job.slot in slots]
        return self._measure(
            action,
            victims,
            interrupted,
            lambda at: [self._recovery.starts_a_job(host, since=at, strangers_to=anatomy.horses)],
        )

    def _kill_reader(self, action: Action, host: Program) -> Outcome:
        """Kill a reader: the horses that were reading with it go on with the next one."""
        readers = eventually(lambda: self.anatomy(host).readers, seconds=_VICTIM_SECONDS)
        victim = _pick(readers, action.place)
        return self._measure(action, [victim], [], lambda at: [self._recovery.starts_a_job(host, since=at)])

    def _measure(
        self,
        action: Action,
        victims: list[int],
        interrupted: list[InHand],
        needs: Callable[[float], list[Need]],
    ) -> Outcome:
        """Kill the victims and wait for what is needed, and for the jobs they had in hand."""
        at = time.monotonic()
        self._system.kill(victims)
        taken_up = self._recovery.takes_up(interrupted)
        times = self._recovery.wait_for_each([taken_up, *needs(at)], since=at)
        seconds = latest(times)
        left = alive(victims)
        detail = f"still alive: {left}" if left else ""
        if seconds is None:
            detail += f"waited for {[job.job for job in interrupted]}, {times}"
        return Outcome(action, at, seconds, len(interrupted), detail, times[0])

    def _victims(self, action: Action, anatomy: Anatomy) -> tuple[list[int], list[int]]:
        """Return whom to kill, and the slots whose work that interrupts."""
        if action.what == "horse":
            horse = _pick(anatomy.horses, action.place)
            return [horse], [self.slot_of(horse)]
        if action.what == "worker":
            slot = _pick(anatomy.slots, action.place)
            return [slot], [slot]
        if action.what == "preloader":
            return [anatomy.preloader], anatomy.slots
        if action.what == "supervisor":
            return [anatomy.supervisor], anatomy.slots
        return anatomy.everything(), anatomy.slots


def _pick_engine(action: Action) -> str:
    return "valkey" if action.host else "postgres"


def _pick(pids: list[int], place: float) -> int:
    return pids[int(place * len(pids))]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
