"""The states of a job, and every permitted transition with its actor and guards.

The store builds each UPDATE of `jobs.state` from these transitions (`emberq.store.jobs.transitions`), a
trigger in the database refuses every other change, the model checker (`tests/chaos/model`) searches them,
and docs/explanation/job-states.md is generated from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class JobState(StrEnum):
    """The state of a job; within one attempt it only moves forward."""

    PENDING = "pending"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: States of a job that is not claimed: it can be cancelled at once.
WAITING_STATES = (JobState.PENDING, JobState.QUEUED)
#: States of a job that has not ended.
LIVE_STATES = (*WAITING_STATES, JobState.PROCESSING)
#: States of a job that has ended; only a retry by a user leaves them.
ENDED_STATES = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class Actor(StrEnum):
    """A role that moves jobs."""

    UPLOADER = "uploader"
    ADMITTER = "admitter"
    SWEEPER = "sweeper"
    WORKER = "worker"
    SLOT = "slot"
    REAPER = "reaper"
    USER = "user"
    REPLACER = "replacer"
    DELETER = "deleter"
    PURGER = "purger"


#: What each actor is, in words.
ACTORS: dict[Actor, str] = {
    Actor.UPLOADER: "the API, when it stores a new file",
    Actor.REPLACER: "the API, when it stores a new version of a file",
    Actor.ADMITTER: "any live process, when it chooses the next jobs to run",
    Actor.SWEEPER: "any live process, when it looks for tickets that are missing from Redis",
    Actor.WORKER: "the horse that processes the file",
    Actor.SLOT: "the worker process that monitors a horse and saw it die",
    Actor.REAPER: "any live process, when it takes over the jobs of a dead host or worker",
    Actor.USER: "a person or program, by API or command line",
    Actor.DELETER: "the API, when it deletes a file or a collection",
    Actor.PURGER: "any live process, when it deletes old records",
}


class Guard(Enum):
    """A condition of a transition, in words."""

    BYTES_DURABLE = "the file's bytes are durable"
    DUE = "the delay after the last attempt is over"
    TICKET = "the ticket shown is the job's newest"
    TICKET_MISSING = "the ticket is missing from Redis"
    FENCE = "the fencing token shown is that of the newest claim"
    TICKET_OF_CLAIM = "the ticket shown is that of the claim, and the slot's own worker made the claim"
    LEASE_EXPIRED = "the lease of the claiming host has expired, or that host saw its worker die"
    CANCEL_REQUESTED = "cancellation is requested"
    CANCEL_NOT_REQUESTED = "no cancellation is requested"
    RETRYABLE = "the error is retryable, and not the second one by time or memory"
    NOT_RETRYABLE = "the error is not retryable, or it is the second one by time or memory"
    ATTEMPTS_LEFT = "fewer than max_attempts attempts are counted"
    ATTEMPTS_EXHAUSTED = "max_attempts attempts are counted"
    WORKER_LOST = "the attempt ended its worker"
    WORKER_ALIVE = "the worker survived the attempt"
    OUTAGE = "an outage of PostgreSQL, the blob store or the embedding provider ended the attempt"
    NO_OUTAGE = "no known outage ended the attempt"
    WORKER_STOPPING = "the attempt was cut off because its worker was told to stop"
    FILE_LIVE = "the file is not deleted"
    NEWEST = "the job's version is the file's newest"
    RETENTION_OVER = "the job ended longer ago than job_retention"
    NOT_NEEDED = "the job is not the newest one of a file, and no Idempotency-Key answers with it"


#: What an actor shows to move a job that is being processed.
PROOFS: dict[Actor, tuple[Guard, ...]] = {
    Actor.WORKER: (Guard.FENCE,),
    Actor.SLOT: (Guard.TICKET_OF_CLAIM,),
    Actor.REAPER: (Guard.LEASE_EXPIRED,),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One permitted change of a job.

    Attributes:
        name: The verb, the same in code, logs and documentation.
        actors: The actors that may make it.
        sources: The states it starts from; empty if it makes the job.
        target: The state it ends in; nothing if it deletes the row.
        guards: The conditions besides the proof that the actor shows.
        effect: What else changes with it, in words.
    """

    name: str
    actors: tuple[Actor, ...]
    sources: tuple[JobState, ...]
    target: JobState | None
    guards: tuple[Guard, ...] = ()
    effect: str = ""


ACCEPT = Transition(
    "accept",
    (Actor.UPLOADER,),
    (),
    JobState.PENDING,
    (Guard.BYTES_DURABLE,),
    "The file is written in the same transaction; its commit is the acknowledgement.",
)
REPLACE = Transition(
    "replace",
    (Actor.REPLACER,),
    (),
    JobState.PENDING,
    (Guard.BYTES_DURABLE, Guard.FILE_LIVE),
    "As accept, for a new version of a file; the jobs of older versions are cancelled.",
)
ADMIT = Transition(
    "admit",
    (Actor.ADMITTER,),
    (JobState.PENDING,),
    JobState.QUEUED,
    (Guard.DUE,),
    "The job gets a new ticket; older tickets are void.",
)
ENQUEUE_AGAIN = Transition(
    "enqueue again",
    (Actor.SWEEPER,),
    (JobState.QUEUED,),
    JobState.QUEUED,
    (Guard.TICKET_MISSING,),
    "The same ticket is put into Redis again.",
)
CLAIM = Transition(
    "claim",
    # A worker gets its fencing token by the claim: it has none to show yet.
    (Actor.WORKER,),
    (JobState.QUEUED,),
    JobState.PROCESSING,
    (Guard.TICKET, Guard.ATTEMPTS_LEFT),
    "The attempt is counted, a new fencing token is issued, the configuration version is pinned.",
)
REQUEUE = Transition(
    "requeue",
    (Actor.SLOT,),
    (JobState.QUEUED,),
    JobState.PENDING,
    (Guard.TICKET,),
    "The horse died before the claim: no attempt is counted. From the second time in a row the job is"
    " delayed, longer each time.",
)
REVOKE = Transition(
    "revoke",
    (Actor.USER,),
    (JobState.QUEUED,),
    JobState.PENDING,
    (),
    "A pause makes the ticket void; the job is admitted again when the pause ends.",
)
PROGRESS = Transition(
    "progress",
    (Actor.WORKER,),
    (JobState.PROCESSING,),
    JobState.PROCESSING,
    (),
    "Stage, done and total are written; the worker learns of a requested cancellation here.",
)
COMMIT = Transition(
    "commit",
    (Actor.WORKER,),
    (JobState.PROCESSING,),
    JobState.COMPLETED,
    (Guard.CANCEL_NOT_REQUESTED, Guard.FILE_LIVE, Guard.NEWEST),
    "Chunks and text of the new version replace those of the old one in the same transaction.",
)
_ENDING_ACTORS = (Actor.WORKER, Actor.SLOT, Actor.REAPER)
BACK_OFF = Transition(
    "back off",
    _ENDING_ACTORS,
    (JobState.PROCESSING,),
    JobState.PENDING,
    (Guard.CANCEL_NOT_REQUESTED, Guard.NO_OUTAGE, Guard.RETRYABLE, Guard.ATTEMPTS_LEFT),
    "The error is kept; the next attempt follows after a delay that depends on the error's class.",
)
SNOOZE = Transition(
    "snooze",
    (Actor.WORKER,),
    (JobState.PROCESSING,),
    JobState.PENDING,
    (Guard.CANCEL_NOT_REQUESTED, Guard.OUTAGE),
    "The job waits for the end of the outage; an attempt that could not succeed is not counted.",
)
FAIL = Transition(
    "fail",
    (Actor.WORKER, Actor.SLOT),
    (JobState.PROCESSING,),
    JobState.FAILED,
    (Guard.CANCEL_NOT_REQUESTED, Guard.NO_OUTAGE, Guard.NOT_RETRYABLE),
    "The error is kept.",
)
EXHAUST = Transition(
    "exhaust",
    (Actor.WORKER, Actor.SLOT),
    (JobState.PROCESSING,),
    JobState.FAILED,
    (
        Guard.CANCEL_NOT_REQUESTED,
        Guard.NO_OUTAGE,
        Guard.RETRYABLE,
        Guard.ATTEMPTS_EXHAUSTED,
        Guard.WORKER_ALIVE,
    ),
    "The error of the last attempt becomes the job's.",
)
QUARANTINE = Transition(
    "quarantine",
    (Actor.SLOT, Actor.REAPER),
    (JobState.PROCESSING,),
    JobState.FAILED,
    (
        Guard.CANCEL_NOT_REQUESTED,
        Guard.NO_OUTAGE,
        Guard.RETRYABLE,
        Guard.ATTEMPTS_EXHAUSTED,
        Guard.WORKER_LOST,
    ),
    "`quarantined` is set; the errors of all attempts are kept.",
)
RELEASE = Transition(
    "release",
    (Actor.SLOT,),
    (JobState.PROCESSING,),
    JobState.PENDING,
    (Guard.CANCEL_NOT_REQUESTED, Guard.WORKER_STOPPING),
    "The attempt is not counted, and the job is admitted again at once.",
)
STOP = Transition(
    "stop",
    _ENDING_ACTORS,
    (JobState.PROCESSING,),
    JobState.CANCELLED,
    (Guard.CANCEL_REQUESTED,),
    "It does not matter how the attempt ended.",
)
_CANCELLING_ACTORS = (Actor.USER, Actor.REPLACER, Actor.DELETER)
CANCEL = Transition(
    "cancel",
    _CANCELLING_ACTORS,
    WAITING_STATES,
    JobState.CANCELLED,
    (),
    "At once; the ticket is void.",
)
REQUEST_CANCEL = Transition(
    "request cancel",
    _CANCELLING_ACTORS,
    (JobState.PROCESSING,),
    JobState.PROCESSING,
    (Guard.CANCEL_NOT_REQUESTED,),
    "The worker finds the request at its next progress report, and at the latest in its commit.",
)
RETRY = Transition(
    "retry",
    (Actor.USER,),
    (JobState.FAILED, JobState.CANCELLED),
    JobState.PENDING,
    (Guard.FILE_LIVE, Guard.NEWEST),
    "Attempts count from zero; the errors of earlier ones stay.",
)
PURGE = Transition(
    "purge",
    (Actor.PURGER,),
    ENDED_STATES,
    None,
    (Guard.RETENTION_OVER, Guard.NOT_NEEDED),
    "The record of the file's version is deleted, too.",
)
DELETE = Transition(
    "delete",
    (Actor.DELETER,),
    (*LIVE_STATES, *ENDED_STATES),
    None,
    (),
    "The whole collection is deleted: jobs, files and chunks in one transaction.",
)

#: Every permitted change; there are no others.
TRANSITIONS = (
    ACCEPT,
    REPLACE,
    ADMIT,
    ENQUEUE_AGAIN,
    CLAIM,
    REQUEUE,
    REVOKE,
    PROGRESS,
    COMMIT,
    BACK_OFF,
    SNOOZE,
    FAIL,
    EXHAUST,
    QUARANTINE,
    RELEASE,
    STOP,
    CANCEL,
    REQUEST_CANCEL,
    RETRY,
    PURGE,
    DELETE,
)


def end_of_attempt(facts: frozenset[Guard]) -> Transition:
    """Return the transition that ends an attempt without a commit.

    Args:
        facts: The guards that are met, one of each pair: cancellation requested or not, outage or
            none, error retryable or not, attempts left or exhausted, worker lost or alive.
    """
    (end,) = (
        transition
        for transition in (BACK_OFF, SNOOZE, FAIL, EXHAUST, QUARANTINE, STOP)
        if facts.issuperset(transition.guards)
    )
    return end
