"""One round: a life, one operation of it broken in one way, recovery, and a look at what is left."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

from emberq.store.files.collections import create_collection
from emberq.testing.faults import Crossing, Fault
from tests.chaos.nth.lives import LIVES, Life, Run, check_always, rest
from tests.chaos.nth.stage import Stage

__all__ = ["Outcome", "Round", "count", "play"]

#: Seconds that the slot may take from the end of a job until it waits for the next one; a slot that met a
#: broken connection pauses for a second or two, which is as good a rest.
_REST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Round:
    """What is broken in which life; nothing in a round that only counts."""

    life: str
    fault: Fault | None = None

    @property
    def name(self) -> str:
        """What `run.py --only` takes."""
        if self.fault is None:
            return self.life
        return f"{self.life}/{self.fault.process}/{self.fault.number}/{self.fault.variant}"


@dataclass(slots=True)
class Outcome:
    """How a round ended.

    Attributes:
        round: Which one.
        crossing: The operation that was broken, if it was reached.
        crossings: All operations that were counted.
        broken: What did not hold, in words.
        seconds: How long it took from the first request until all was over.
        attempts: Most attempts of a job.
        log: What the processes logged meanwhile, if something did not hold.
    """

    round: Round
    crossing: Crossing | None = None
    crossings: list[Crossing] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 0
    log: list[str] = field(default_factory=list)


def play(stage: Stage, this: Round) -> Outcome:
    """Play one round from a clean beginning."""
    life = next(life for life in LIVES if life.name == this.life)
    outcome = Outcome(this)
    run = Run(stage, f"w{uuid.uuid4().hex[:10]}")
    stage.wants_host = True
    _clear(stage)
    try:
        life.before(run)
    except Exception as exc:  # noqa: BLE001 - a stage that does not work is a result
        outcome.broken.append(f"before the fault: {type(exc).__name__}: {exc}")
        return outcome
    stage.points.arm(this.fault)
    began_at = time.monotonic()
    try:
        life.live(run)
        settled = run.settle()
        outcome.seconds = time.monotonic() - began_at
        # What comes after the end of the job belongs to its life, too.
        rest(run, seconds=_REST_SECONDS)
        outcome.crossings = stage.points.crossings()
        if stage.points.has_fired and this.fault is not None:
            outcome.crossing = _reached(outcome.crossings, this.fault)
        stage.points.arm(None)
        _look(run, life, outcome, settled=settled)
    except Exception as exc:  # noqa: BLE001 - the same
        run.broken.append(f"{type(exc).__name__}: {exc}")
    finally:
        stage.points.arm(None)
    outcome.broken += run.broken
    return outcome


def count(stage: Stage, life: Life) -> list[Crossing]:
    """Play a life with nothing broken and return its operations.

    Raises:
        RuntimeError: If something does not hold even so.
    """
    outcome = play(stage, Round(life.name))
    if outcome.broken:
        raise RuntimeError(f"{outcome.round.name}: {outcome.broken}")
    return [crossing for crossing in outcome.crossings if crossing.process in life.processes]


def _look(run: Run, life: Life, outcome: Outcome, *, settled: bool) -> None:
    outcome.attempts = max((run.job(name)["attempt"] for name in run.jobs), default=0)
    if not settled:
        stuck = [
            {key: run.job(name)[key] for key in ("state", "attempt", "waiting_reason", "error_code")}
            for name in run.jobs
        ]
        run.broken.append(f"stuck: {stuck}, tickets {run.stage.queue_lengths()}")
        return
    life.check(run)
    check_always(run)


def _reached(crossings: list[Crossing], fault: Fault) -> Crossing | None:
    return next(
        (one for one in crossings if one.process == fault.process and one.number == fault.number), None
    )


def _clear(stage: Stage) -> None:
    """Leave nothing of the last round: no row of a file, no ticket in the queue."""
    stage.sql(
        "TRUNCATE collections, files, file_versions, jobs, chunks, idempotency_keys, breakers, turns CASCADE"
    )
    stage.redis().delete("rq:queue:emberq", "rq:queue:emberq:intermediate")
    with stage.services.database.system_transaction() as connection:
        create_collection(connection, "default", "docs", embedding_model=stage.embedding_model)
