"""The campaign: load, kills by plan, quiet, end state, verdict."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.campaign.caller import Caller, Pulse
from tests.chaos.campaign.checker import Verdict, check
from tests.chaos.campaign.clients import Client, Reader
from tests.chaos.campaign.end_state import read_end_state, wait_until_quiet
from tests.chaos.campaign.faults import Faults
from tests.chaos.campaign.history import History, Operation, read_history
from tests.chaos.campaign.killer import Killer, Outcome
from tests.chaos.campaign.orphans import OrphanWatch
from tests.chaos.campaign.plan import Action
from tests.chaos.campaign.rare import count_rare_states
from tests.chaos.campaign.recovery import Recovery
from tests.chaos.campaign.system import System, run_system
from tests.chaos.campaign.witness import Event, Witness
from tests.harness.eventually import scaled

__all__ = ["Phase", "Result", "run_campaign"]

#: Clients that write; with their jobs under way they keep four slots busy.
_CLIENTS = 6
#: Seconds after the start that are not measured.
_WARM_UP_SECONDS = 2.0
#: Seconds until everything that was acknowledged has to be at an end.
_QUIET_SECONDS = scaled(300.0)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time and the jobs completed in it."""

    name: str
    seconds: float
    completed: int

    @property
    def per_second(self) -> float:
        """Jobs completed a second."""
        return self.completed / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a campaign found.

    Attributes:
        seed: Makes the same plan again.
        outcomes: Every action with its recovery.
        phases: Throughput before, during and after.
        rare: How often each rare state was reached.
        verdict: What the checker found.
        operations: How many operations of each kind were asked for and acknowledged.
        ends: How jobs ended, by state and error code.
        seconds: How long it all took.
        is_quiet: Whether every job came to an end in time.
        failed_starts: How often `emberq up` ended by itself instead of serving again.
        orphans: Processes that outlived their parents by more than two seconds.
        longest_orphan_seconds: For how long one outlived its parent at most.
        left_directories: Temporary directories that were left at the end.
    """

    seed: str
    outcomes: list[Outcome]
    phases: list[Phase]
    rare: dict[str, int]
    verdict: Verdict
    operations: dict[str, tuple[int, int]]
    ends: dict[str, int]
    seconds: float
    is_quiet: bool
    failed_starts: int
    orphans: list[str]
    longest_orphan_seconds: float
    left_directories: list[str]


def run_campaign(
    directory: Path,
    *,
    seed: str,
    plan: list[Action],
    hosts: int,
    phase_seconds: float,
    tell: Callable[[str], None],
) -> Result:
    """Run a plan against a system of its own; call it from the main thread.

    Args:
        directory: Empty; history, logs, end state and outcomes stay in it.
        seed: Also makes what clients do.
        plan: What is done to the system.
        hosts: Number of worker hosts.
        phase_seconds: How long throughput is measured before and after.
        tell: Hears what is going on.
    """
    began_at = time.monotonic()
    with run_system(directory, hosts=hosts) as system, Witness(system) as witness:
        director = _Director(directory, system, witness, seed=seed, plan=plan, tell=tell)
        director.phase_seconds = phase_seconds
        orphans = OrphanWatch(system.roots)
        orphans.start()
        director.start()
        try:
            while director.is_alive():
                # Engines end with the thread that started them, which is this one.
                system.ensure_ready()
                director.join(0.05)
        finally:
            orphans.stop()
        if director.error is not None:
            raise director.error
        return director.judge(orphans, seconds=time.monotonic() - began_at)


class _Director(threading.Thread):
    """Has clients act, carries out the plan, and reads the end state, all beside the engines' thread."""

    def __init__(
        self,
        directory: Path,
        system: System,
        witness: Witness,
        *,
        seed: str,
        plan: list[Action],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(name="director", daemon=True)
        self._directory = directory
        self._system = system
        self._witness = witness
        self._seed = seed
        self._plan = plan
        self._tell = tell
        self._phases: list[Phase] = []
        self._outcomes: list[Outcome] = []
        self._state: dict[str, Any] = {}
        self._is_quiet = False
        self.phase_seconds = 0.0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with History(self._directory / "history.jsonl") as history:
                self._direct(history)
        except BaseException as exc:  # noqa: BLE001 - raised again in the main thread
            self.error = exc

    def _direct(self, history: History) -> None:
        pulse = Pulse()
        callers = [Caller(self._system, history, pulse, seed=self._seed) for _ in range(_CLIENTS + 2)]
        names = [f"{kind}{action.number}" for action in self._plan for kind in _special(action)]
        threads: list[Client | Reader] = [
            Client(number, caller, names, seed=self._seed)
            for number, caller in enumerate(callers[:_CLIENTS], start=1)
        ]
        threads.append(Reader(callers[_CLIENTS], names, seed=self._seed))
        for thread in threads:
            thread.start()
        try:
            time.sleep(_WARM_UP_SECONDS)
            self._measure("before", lambda: time.sleep(self.phase_seconds))
            self._measure("during", lambda: self._carry_out(history, pulse, callers[-1]))
            self._measure("after", lambda: time.sleep(self.phase_seconds))
        finally:
            for caller in callers:
                caller.stop.set()
            for thread in threads:
                thread.join()
            callers[-1].close()
        for thread in threads:
            if thread.error is not None:
                raise thread.error
        self._tell("waiting for quiet")
        self._is_quiet = wait_until_quiet(self._witness, seconds=_QUIET_SECONDS)
        with self._system.client(seconds=60.0) as client:
            self._state = read_end_state(client, self._witness, names)
        _save(self._directory / "end_state.json", self._state)

    def _carry_out(self, history: History, pulse: Pulse, caller: Caller) -> None:
        recovery = Recovery(self._system, self._witness, pulse)
        killer = Killer(self._system, self._witness, recovery)
        faults = Faults(self._system, self._witness, recovery, killer, caller)
        for action in self._plan:
            time.sleep(action.pause_seconds)
            history.note("action", action=asdict(action))
            outcome = killer.kill(action) if action.is_kill else faults.carry_out(action)
            history.note("outcome", outcome=asdict(outcome))
            self._outcomes.append(outcome)
            _save(self._directory / "outcomes.json", [asdict(one) for one in self._outcomes])
            self._tell(_line(outcome, len(self._plan)))

    def _measure(self, name: str, act: Callable[[], None]) -> None:
        began_at = time.monotonic()
        act()
        seconds = time.monotonic() - began_at
        completed = sum(
            event.name == "job_completed" and began_at <= event.at < began_at + seconds
            for event in self._witness.events
        )
        self._phases.append(Phase(name, seconds, completed))

    def judge(self, orphans: OrphanWatch, *, seconds: float) -> Result:
        history = read_history(self._directory / "history.jsonl")
        events: list[Event] = self._witness.events
        return Result(
            seed=self._seed,
            outcomes=self._outcomes,
            phases=self._phases,
            rare=count_rare_states(events, self._state["jobs"]),
            verdict=check(history, self._state),
            operations=_count_operations(history),
            ends=_count_ends(self._state["jobs"]),
            seconds=seconds,
            is_quiet=self._is_quiet,
            failed_starts=self._system.up.exits,
            orphans=orphans.found,
            longest_orphan_seconds=orphans.longest_seconds,
            left_directories=self._system.left_directories(),
        )


def _special(action: Action) -> list[str]:
    """Return which files an action uploads itself."""
    return {"poison": ["poison"], "lose_lease_in_commit": ["held"]}.get(action.what, [])


def _line(outcome: Outcome, of: int) -> str:
    action = outcome.action
    seconds = "not in time" if outcome.recovery_seconds is None else f"{outcome.recovery_seconds:.2f} s"
    detail = f" ({outcome.detail})" if outcome.detail else ""
    what = f"kill {action.what}" if action.is_kill else action.what
    return f"{action.number}/{of} {what}: {seconds}, {outcome.interrupted} jobs interrupted{detail}"


def _count_operations(history: list[Operation]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for one in history:
        asked, acknowledged = counts.get(one.kind, (0, 0))
        counts[one.kind] = (asked + 1, acknowledged + one.is_acknowledged)
    return counts


def _count_ends(jobs: list[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for job in jobs:
        code = (job["error"] or {}).get("code")
        end = job["state"] if job["state"] == "completed" or not code else f"{job['state']}: {code}"
        counts[end] = counts.get(end, 0) + 1
    return counts


def _save(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
