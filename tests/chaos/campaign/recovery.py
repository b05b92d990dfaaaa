"""Recovery: what has to happen again after something was killed, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import httpx

from tests.chaos.campaign.caller import Pulse
from tests.chaos.campaign.programs import Program
from tests.chaos.campaign.system import System
from tests.chaos.campaign.witness import InHand, Witness
from tests.harness.eventually import scaled

__all__ = ["LIMIT_SECONDS", "Need", "Recovery", "latest"]

#: Something that has to happen again; tells whether it has.
Need = Callable[[], bool]

#: Seconds after which a recovery is given up; twice the bound.
LIMIT_SECONDS = scaled(90.0)
#: Seconds for which an answer is waited for.
_ANSWER_SECONDS = 1.0
#: Seconds between two looks.
_LOOK_SECONDS = 0.02


class Recovery:
    """Says what "running again" means for each thing that can be killed."""

    def __init__(self, system: System, witness: Witness, pulse: Pulse) -> None:
        """Look at a system through its witness and at what its clients are answered."""
        self._system = system
        self._witness = witness
        self._pulse = pulse

    def starts_a_job(self, host: Program, *, since: float, strangers_to: Sequence[int] = ()) -> Need:
        """Tell whether a host has begun a job since, in a horse that is none of these."""
        cursor = len(self._witness.events)

        def has_started() -> bool:
            nonlocal cursor
            events = self._witness.events
            for event in events[cursor:]:
                cursor += 1
                if (
                    event.name == "job_started"
                    and event.program == host.name
                    and event.at > since
                    and event.fields["horse_pid"] not in strangers_to
                ):
                    return True
            return False

        return _once(has_started)

    def acknowledges(self, *, since: float) -> Need:
        """Tell whether the API has acknowledged a write that was sent since."""
        return lambda: self._pulse.sent_at > since

    def serves_again(self, *, killed: int) -> Need:
        """Tell whether `up` is ready in another process than this one, and its API answers that it is."""
        up, url = self._system.up, f"http://127.0.0.1:{self._system.up_port}/readyz"

        def serves() -> bool:
            if up.pid in (0, killed) or "is ready at" not in up.printed:
                return False
            try:
                return httpx.get(url, timeout=_ANSWER_SECONDS).is_success
            except httpx.TransportError:
                return False

        return _once(serves)

    def takes_up(self, jobs: list[InHand]) -> Need:
        """Tell whether each job has been claimed anew or is over."""
        left = list(jobs)

        def have_been() -> bool:
            left[:] = self._witness.not_taken_up(left) if left else []
            return not left

        return _once(have_been)

    def is_replaced(self, engine: str, *, pid: int) -> Need:
        """Tell whether an engine runs in another process, and every host has begun a job since then."""
        hosts: list[Need] = []

        def works() -> bool:
            if not hosts:
                try:
                    if self._system.engine_pid(engine) == pid:
                        return False
                except (OSError, ValueError, IndexError):
                    return False
                now = time.monotonic()
                hosts.extend(self.starts_a_job(host, since=now) for host in self._system.hosts)
            return all(host() for host in hosts)

        return works

    def wait(self, needs: Sequence[Need], *, since: float) -> float | None:
        """Wait until all of it has happened and return the seconds since; nothing if it takes too long."""
        return latest(self.wait_for_each(needs, since=since))

    def wait_for_each(self, needs: Sequence[Need], *, since: float) -> list[float | None]:
        """Wait until all of it has happened and return when each did, in seconds since."""
        met: list[float | None] = [None] * len(needs)
        while True:
            for index, need in enumerate(needs):
                if met[index] is None and need():
                    met[index] = time.monotonic() - since
            if None not in met or time.monotonic() - since > LIMIT_SECONDS:
                return met
            time.sleep(_LOOK_SECONDS)


def latest(times: Sequence[float | None]) -> float | None:
    """Return the latest of some times, nothing if one of them did not come."""
    return None if None in times else max((time for time in times if time is not None), default=0.0)


def _once(condition: Need) -> Need:
    """Remember that a condition was met: what happened stays true."""
    met = False

    def is_met() -> bool:
        nonlocal met
        met = met or condition()
        return met

    return is_met
