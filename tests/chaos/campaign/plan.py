"""The plan of a campaign: what is done to the system, in which order, all of it from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["FAULTS", "QUICK_FAULTS", "VICTIMS", "Action", "make_plan"]

#: What is killed, and how often in a hundred.
VICTIMS = {
    "horse": 24,
    "worker": 16,
    "preloader": 6,
    "reader": 6,
    "supervisor": 8,
    "host": 6,
    "api": 10,
    "up": 6,
    "valkey": 8,
    "postgres": 7,
    "everything": 3,
}
#: What is done besides.
FAULTS = (
    "stop_horse",
    "stop_worker",
    "stop_supervisor",
    "stop_host",
    "cut_redis",
    "cut_database",
    "silence_redis",
    "silence_database",
    "delay_redis",
    "delay_database",
    "jump_clock",
    "fill_disk",
    "flush_redis",
    "copy_tickets",
    "poison",
    "lose_lease_in_commit",
)
#: Those that are over within seconds.
QUICK_FAULTS = ("cut_redis", "cut_database", "jump_clock", "fill_disk", "flush_redis", "copy_tickets")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that is done to the system.

    Attributes:
        number: Its place in the plan.
        is_kill: Whether it is a SIGKILL; everything else is a fault.
        what: Who is killed, or which fault.
        host: Where, if it is done to a host; counts from 0.
        place: Which one of several, as a share of their number.
        pause_seconds: How long after the recovery from the action before it.
    """

    number: int
    is_kill: bool
    what: str
    host: int
    place: float
    pause_seconds: float


def make_plan(
    seed: str, *, kills: int, hosts: int, faults: tuple[str, ...] = FAULTS, every: int = 12
) -> list[Action]:
    """Return the plan of a seed: so many kills, and a fault after every so many of them.

    Every victim comes first once, and every fault once before any comes again.
    """
    choose = random.Random(seed)
    victims = list(VICTIMS)
    choose.shuffle(victims)
    victims += choose.choices(list(VICTIMS), list(VICTIMS.values()), k=kills)
    round_of_faults: list[str] = []
    plan: list[Action] = []

    def add(what: str, *, is_kill: bool) -> None:
        plan.append(
            Action(
                len(plan) + 1,
                is_kill,
                what,
                choose.randrange(hosts),
                choose.random(),
                choose.uniform(0.05, 0.8),
            )
        )

    for number, victim in enumerate(victims[:kills], start=1):
        add(victim, is_kill=True)
        if faults and number % every == 0:
            if not round_of_faults:
                round_of_faults = choose.sample(faults, len(faults))
            add(round_of_faults.pop(), is_kill=False)
    return plan
