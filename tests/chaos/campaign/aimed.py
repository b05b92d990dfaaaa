"""Faults that are aimed at one file: they reach states that random kills reach too seldom."""

from __future__ import annotations

import signal
import time

from tests.chaos.campaign.caller import Caller, File
from tests.chaos.campaign.killer import Outcome
from tests.chaos.campaign.plan import Action
from tests.chaos.campaign.recovery import Recovery
from tests.chaos.campaign.system import System
from tests.chaos.campaign.witness import Event, InHand, Witness
from tests.harness.eventually import scaled
from tests.harness.processes import send

__all__ = ["AimedFaults"]

#: Lines of a file that is processed for a second or two, so that it can be aimed at.
_LONG = 80
#: Seconds a job that was aimed at may take to come up.
_AIM_SECONDS = scaled(90.0)


class AimedFaults:
    """Uploads files and has things happen to exactly these."""

    def __init__(self, system: System, witness: Witness, recovery: Recovery, caller: Caller) -> None:
        """Aim at files that `caller` uploads."""
        self._system = system
        self._witness = witness
        self._recovery = recovery
        self._caller = caller

    def poison(self, action: Action) -> Outcome:
        """Kill whoever works on one file, each time: it has to be set aside."""
        file = File(f"poison{action.number}")
        at = time.monotonic()
        self._caller.upload(file, lines=_LONG)
        fence, deaths = 0, 0
        while (started := self._begins(file, after=fence, since=at)) is not None:
            fence, deaths = started.fields["fence"], deaths + 1
            send(started.fields["horse_pid"], signal.SIGKILL)
        ended = self._caller.look(file, file.job_id, file.edition)
        at = time.monotonic()
        return Outcome(action, at, 0.0 if ended else None, deaths, f"{deaths} deaths")

    def _begins(self, file: File, *, after: int, since: float) -> Event | None:
        """Return the next beginning of a file's job, nothing once the job is over."""
        deadline = time.monotonic() + _AIM_SECONDS
        while time.monotonic() < deadline:
            started = self._witness.wait_for(
                "job_started",
                lambda event: event.fields["job"] == file.job_id and event.fields["fence"] > after,
                since=since,
                seconds=0.2,
            )
            if started is not None:
                return started
            if self._witness.is_over(file.job_id):
                return None
        return None

    def lose_lease_in_commit(self, action: Action) -> Outcome:
        """Hold a commit up at the file's row until the reaper has taken the job away, then let it go on."""
        file = File(f"held{action.number}")
        since = time.monotonic()
        self._caller.upload(file, lines=3)
        with self._witness.connect(autocommit=False) as lock:
            lock.execute("SELECT 1 FROM files WHERE id = %s FOR NO KEY UPDATE", [file.file_id])
            storing = self._witness.wait_for(
                "stage_started",
                lambda event: event.fields["job"] == file.job_id and event.fields["stage"] == "storing",
                since=since,
                seconds=_AIM_SECONDS,
            )
            if storing is None:
                return Outcome(action, time.monotonic(), None, 0, "the commit was not caught")
            host = next(host for host in self._system.hosts if host.name == storing.program)
            supervisor = host.pid
            at = time.monotonic()
            send(supervisor, signal.SIGSTOP)
            try:
                with self._witness.connect() as connection:
                    connection.execute(
                        "UPDATE hosts SET lease_until = now() - interval '1 second' WHERE pid = %s",
                        [supervisor],
                    )
                job = InHand(file.job_id, storing.fields["fence"], 0)
                seconds = self._recovery.wait([self._recovery.takes_up([job])], since=at)
                lock.rollback()
                lost = self._witness.wait_for(
                    "lease_lost",
                    lambda event: event.fields["job"] == file.job_id,
                    since=since,
                    seconds=_AIM_SECONDS,
                )
            finally:
                send(supervisor, signal.SIGCONT)
        return Outcome(action, at, seconds, 1, "" if lost else "the zombie did not report")
