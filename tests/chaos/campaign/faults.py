"""Faults besides kills: processes that stand still, wires that fail, a clock that jumps, a full disk."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

from redis import Redis

from emberq.testing.proxy import TcpProxy
from tests.chaos.campaign.aimed import AimedFaults
from tests.chaos.campaign.caller import Caller
from tests.chaos.campaign.killer import Killer, Outcome
from tests.chaos.campaign.plan import Action
from tests.chaos.campaign.programs import Program
from tests.chaos.campaign.recovery import Need, Recovery
from tests.chaos.campaign.system import System
from tests.chaos.campaign.witness import InHand, Witness
from tests.harness.eventually import came_true, scaled
from tests.harness.processes import send

__all__ = ["Faults"]

#: Seconds for which processes stand still: three leases.
_STOP_SECONDS = 24.0
#: Seconds for which a wire is cut, and most for which it is silent or slow.
_CUT_SECONDS = 1.5
_SILENT_SECONDS = 12.0
_SLOW_SECONDS = 4.0
#: Seconds that a byte takes on a slow wire, each way.
_DELAY_SECONDS = 0.15
#: Seconds for which the disk is full.
_FULL_SECONDS = 3.0
#: The list in Redis in which tickets wait.
_TICKETS = "rq:queue:emberq"
#: Seconds a job that was aimed at may take to come up.
_AIM_SECONDS = scaled(90.0)


class Faults:
    """Carries out the faults of a plan; each returns when what it disturbed goes on."""

    def __init__(
        self, system: System, witness: Witness, recovery: Recovery, killer: Killer, caller: Caller
    ) -> None:
        """Disturb a system; `caller` uploads files that are to be hit."""
        self._system = system
        self._witness = witness
        self._recovery = recovery
        self._killer = killer
        self._aimed = AimedFaults(system, witness, recovery, caller)

    def carry_out(self, action: Action) -> Outcome:
        """Carry out one fault."""
        verb, _, rest = action.what.partition("_")
        if verb in ("cut", "silence", "delay"):
            return self._disturb_wire(action, verb, rest)
        if action.what in ("poison", "lose_lease_in_commit"):
            aimed: Callable[[Action], Outcome] = getattr(self._aimed, action.what)
            return aimed(action)
        fault: Callable[[Action], Outcome] = getattr(self, f"_{action.what}")
        return fault(action)

    def _host(self, action: Action) -> Program:
        return self._system.hosts[action.host]

    def _stop_horse(self, action: Action) -> Outcome:
        """Stop a horse in the middle of a job: the watchdog has to find out."""
        self._killer.anatomy(self._host(action))
        started = self._witness.wait_for(
            "job_started",
            lambda event: event.program == self._host(action).name,
            since=time.monotonic(),
            seconds=_AIM_SECONDS,
        )
        if started is None:
            return Outcome(action, time.monotonic(), None, 0, "no job began")
        job = InHand(started.fields["job"], started.fields["fence"], 0)
        return self._stand_still(action, [started.fields["horse_pid"]], [job])

    def _stop_worker(self, action: Action) -> Outcome:
        anatomy = self._killer.anatomy(self._host(action))
        slot = anatomy.slots[int(action.place * len(anatomy.slots))]
        return self._stand_still(action, [slot], self._in_hand([slot]))

    def _stop_supervisor(self, action: Action) -> Outcome:
        """Stop the one that beats: the host's jobs are taken over although its workers live."""
        anatomy = self._killer.anatomy(self._host(action))
        return self._stand_still(action, [anatomy.supervisor], self._in_hand(anatomy.slots))

    def _stop_host(self, action: Action) -> Outcome:
        """Stop all of a host: when it goes on, it is a zombie whose jobs others have done."""
        anatomy = self._killer.anatomy(self._host(action))
        return self._stand_still(action, anatomy.everything(), self._in_hand(anatomy.slots))

    def _in_hand(self, slots: list[int]) -> list[InHand]:
        return [job for job in self._witness.in_hand() if job.slot in slots]

    def _stand_still(self, action: Action, pids: list[int], interrupted: list[InHand]) -> Outcome:
        at = time.monotonic()
        for pid in pids:
            send(pid, signal.SIGSTOP)
        try:
            seconds = self._recovery.wait([self._recovery.takes_up(interrupted)], since=at)
            time.sleep(max(0.0, at + _STOP_SECONDS - time.monotonic()))
        finally:
            for pid in reversed(pids):
                send(pid, signal.SIGCONT)
        return Outcome(action, at, seconds, len(interrupted))

    def _disturb_wire(self, action: Action, verb: str, which: str) -> Outcome:
        wire: TcpProxy = getattr(self._system.wires[action.host], which)
        anatomy = self._killer.anatomy(self._host(action))
        interrupted = self._in_hand(anatomy.slots)
        if verb == "cut":
            wire.cut()
            time.sleep(_CUT_SECONDS)
        elif verb == "silence":
            wire.half_open()
            time.sleep(_SILENT_SECONDS * (0.2 + 0.8 * action.place))
        else:
            wire.delay(_DELAY_SECONDS)
            time.sleep(_SLOW_SECONDS)
        wire.heal()
        return self._recovered(
            action,
            [
                self._recovery.starts_a_job(self._host(action), since=time.monotonic()),
                self._recovery.takes_up(interrupted),
            ],
            interrupted=len(interrupted),
        )

    def _jump_clock(self, action: Action) -> Outcome:
        """Let the database's clock, by which leases are judged, seem to be an hour further on."""
        interrupted = self._witness.in_hand()
        with self._witness.connect() as connection:
            connection.execute("UPDATE hosts SET lease_until = lease_until - interval '1 hour'")
        return self._recovered(action, [self._recovery.takes_up(interrupted)], interrupted=len(interrupted))

    def _fill_disk(self, action: Action) -> Outcome:
        """Leave no byte where uploads are stored."""
        if not self._system.blobs.is_mount():
            return Outcome(action, time.monotonic(), 0.0, 0, "not done: no file system of its own")
        ballast = self._system.blobs / "ballast"
        try:
            with ballast.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            time.sleep(_FULL_SECONDS)
        finally:
            ballast.unlink(missing_ok=True)
        return self._recovered(action, [self._recovery.acknowledges(since=time.monotonic())])

    def _flush_redis(self, action: Action) -> Outcome:
        """Let Redis forget everything while tickets wait in it."""
        with self._redis() as redis:
            came_true(lambda: bool(redis.llen(_TICKETS)), seconds=_AIM_SECONDS)
            waiting = self._witness.in_hand(states=("queued",))
            redis.flushall()
        return self._recovered(action, [self._recovery.takes_up(waiting)], interrupted=len(waiting))

    def _copy_tickets(self, action: Action) -> Outcome:
        """Deliver tickets twice, the copy first, to workers that ask at the same time."""
        with self._redis() as redis:
            for _ in range(20):
                came_true(lambda: bool(redis.llen(_TICKETS)), seconds=_AIM_SECONDS)
                since = time.monotonic()
                tickets: Any = redis.lrange(_TICKETS, 0, -1)
                for ticket in tickets:
                    redis.lpush(_TICKETS, ticket, ticket)
                if self._witness.wait_for("ticket_stale", since=since, seconds=0.5):
                    break
        return self._recovered(
            action, [self._recovery.starts_a_job(self._host(action), since=time.monotonic())]
        )

    def _recovered(self, action: Action, needs: list[Need], *, interrupted: int = 0) -> Outcome:
        """Wait from now on: the disturbance is over."""
        at = time.monotonic()
        return Outcome(action, at, self._recovery.wait(needs, since=at), interrupted)

    def _redis(self) -> Redis:
        return Redis.from_url(self._system.engines.redis_admin_url)
