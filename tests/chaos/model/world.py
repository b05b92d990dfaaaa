"""The state of the model of one file's life, and the invariants of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from emberq.store.schema.job_states import ENDED_STATES, JobState

__all__ = [
    "GONE",
    "INITIAL",
    "MAX_ATTEMPTS",
    "Job",
    "Phase",
    "State",
    "Worker",
    "broken_invariant",
    "is_good",
    "newest_version",
    "with_job",
    "with_worker",
    "with_workers",
]

MAX_ATTEMPTS = 2


class Phase(StrEnum):
    """What a worker is at."""

    IDLE = "idle"
    POPPED = "popped"
    WORKING = "working"
    #: `COMPLETE_BEFORE_STORING` only: completed, chunks not yet stored.
    STORING = "storing"
    #: The horse is dead; its slot knows the ticket and will end the attempt.
    HORSELESS = "horseless"


#: A job whose row was purged: it had ended.
GONE = "gone"
_OVER = (*ENDED_STATES, GONE)


class Worker(NamedTuple):
    """A slot and its horse."""

    phase: Phase = Phase.IDLE
    job: int = 0
    has_newest_ticket: bool = False
    has_newest_fence: bool = False


class Job(NamedTuple):
    """One version's job; the index in `State.jobs` is the version, less one."""

    state: JobState | str | None = None
    attempt: int = 0
    cancel_requested: bool = False
    bytes_durable: bool = False
    #: The newest ticket lies in Redis. (An older one that is popped late is one that was popped early, by
    #: a worker that then paused: the model has that already.)
    ticket_waits: bool = False
    # What the store does not know, but the world does.
    acknowledged: bool = False
    claims: int = 0
    told_cancelled: bool = False


class State(NamedTuple):
    """Everything at one moment."""

    jobs: tuple[Job, Job] = (Job(), Job())
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    visible_version: int = 0
    chunks_of: int = 0
    deleted: bool = False
    #: `CANCEL_IN_TWO_STATEMENTS` only: the job (counted from 1) between the two.
    cancelling: int = 0

    def __str__(self) -> str:
        parts = [
            f"v{number}={job.state or 'none'}/{job.attempt}"
            + " asked" * job.cancel_requested
            + " ticket" * job.ticket_waits
            for number, job in enumerate(self.jobs, 1)
        ]
        parts += [
            f"{worker.phase}(v{worker.job + 1})" for worker in self.workers if worker.phase is not Phase.IDLE
        ]
        return "; ".join([*parts, f"visible=v{self.visible_version}", *["deleted"] * self.deleted])


INITIAL = State()


def newest_version(state: State) -> int:
    """Return the file's newest version, 0 while there is no file."""
    return sum(job.state is not None for job in state.jobs)


def with_job(now: State, index: int, /, **changes: object) -> State:
    """Return the state with one job changed; of an ended job, fields that are never read are reset."""
    jobs = list(now.jobs)
    job = jobs[index]._replace(**changes)  # type: ignore[arg-type]
    if job.state in _OVER:
        # A retry starts from zero, whatever these were.
        told = job.told_cancelled and job.state == JobState.COMPLETED
        job = job._replace(attempt=0, claims=0, cancel_requested=False, told_cancelled=told)
    jobs[index] = job
    return now._replace(jobs=(jobs[0], jobs[1]))


def with_workers(state: State, workers: list[Worker]) -> State:
    """Return the state with these workers; they are alike, so their order is the model's to choose."""
    one, two = sorted(workers)
    return state._replace(workers=(one, two))


def with_worker(state: State, number: int, worker: Worker) -> State:
    """Return the state with one worker changed."""
    return with_workers(state, [worker, state.workers[1 - number]])


def _left_by_stale_holder(before: State, what: str, after: State) -> bool:
    moved = any(job.state != was.state for job, was in zip(after.jobs, before.jobs, strict=True))
    return "[stale]" in what and moved


#: What no step may break, in words, with what breaks it.
_INVARIANTS: tuple[tuple[str, Callable[[State, str, State], bool]], ...] = (
    (
        "readers see the chunks of the visible version, all of them and no others",
        lambda before, what, after: after.visible_version != after.chunks_of,
    ),
    (
        "deleted stays deleted",
        lambda before, what, after: after.deleted and after.visible_version != 0,
    ),
    (
        "an older version never follows a newer one",
        lambda before, what, after: after.visible_version < before.visible_version and not after.deleted,
    ),
    (
        "what is acknowledged is there",
        lambda before, what, after: any(job.acknowledged and job.state is None for job in after.jobs),
    ),
    (
        "no job takes more than max_attempts attempts",
        lambda before, what, after: any(job.claims > MAX_ATTEMPTS for job in after.jobs),
    ),
    (
        "what was cancelled is not committed later",
        lambda before, what, after: any(
            job.told_cancelled and job.state == JobState.COMPLETED for job in after.jobs
        ),
    ),
    (
        "no job is completed without its chunks",
        lambda before, what, after: (
            not after.deleted
            and any(
                job.state == JobState.COMPLETED and after.visible_version < version
                for version, job in enumerate(after.jobs, 1)
            )
        ),
    ),
    ("only its newest holder, or the reaper, ends an attempt", _left_by_stale_holder),
)


def broken_invariant(before: State, what: str, after: State) -> str | None:
    """Name the invariant that a step breaks, nothing if it breaks none.

    Args:
        before: The state before the step.
        what: The step.
        after: The state after it.
    """
    return next((words for words, breaks in _INVARIANTS if breaks(before, what, after)), None)


def is_good(state: State) -> bool:
    """Tell whether every upload has come to a good end: searchable, or over for a reason that has a name."""
    accepted = [job for job in state.jobs if job.state is not None]
    if any(job.state not in _OVER for job in accepted):
        return False
    newest = newest_version(state)
    searchable = state.visible_version == newest
    return state.deleted or not accepted or accepted[-1].state != JobState.COMPLETED or searchable
