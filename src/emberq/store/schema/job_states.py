"""The life of a job, written down once: its states, who may move it between them, and under what guard.

The store builds every UPDATE of `jobs.state` from these transitions (`emberq.store.jobs.transitions`), a
trigger in the database refuses whatever is not among them, the model checker searches them, and
docs/explanation/job-states.md is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

__all__ = [
    "ACCEPT",
    "ACTORS",
    "ADMIT",
    "ASK_TO_STOP",
    "BACK_OFF",
    "CALL_BACK",
    "CANCEL",
    "CLAIM",
    "COMMIT",
    "DROP",
    "ENDED_STATES",
    "FAIL",
    "GIVE_BACK",
    "GIVE_UP",
    "HOLD_BACK",
    "LIVE_STATES",
    "PROGRESS",
    "PROOFS",
    "PURGE",
    "QUARANTINE",
    "RELEASE",
    "REPLACE",
    "RETRY",
    "RING_AGAIN",
    "STOP",
    "TRANSITIONS",
    "WAITING_STATES",
    "Actor",
    "Guard",
    "JobState",
    "Transition",
    "end_of_attempt",
]


class JobState(StrEnum):
    """Where a job is; within one attempt it only moves forward."""

    PENDING = "pending"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: States of a job that has not been taken: it can be cancelled at once.
WAITING_STATES = (JobState.PENDING, JobState.QUEUED)
#: States a job leaves by itself.
LIVE_STATES = (*WAITING_STATES, JobState.PROCESSING)
#: States a job does not leave by itself.
ENDED_STATES = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class Actor(StrEnum):
    """Who moves a job."""

    UPLOADER = "uploader"
    ADMITTER = "admitter"
    SWEEP = "sweep"
    WORKER = "worker"
    SLOT = "slot"
    REAPER = "reaper"
    USER = "user"
    REPLACER = "replacer"
    DELETER = "deleter"
    PURGER = "purger"


#: Who that is, in words.
ACTORS: dict[Actor, str] = {
    Actor.UPLOADER: "the API, storing a new file",
    Actor.REPLACER: "the API, storing a file's next version",
    Actor.ADMITTER: "whichever live process chooses what may run next",
    Actor.SWEEP: "whichever live process looks for tickets that vanished from Redis",
    Actor.WORKER: "the horse that works on the file",
    Actor.SLOT: "the worker process that minds a horse and saw it die",
    Actor.REAPER: "whichever live process takes over the jobs of silent hosts",
    Actor.USER: "a person or program, by API or command line",
    Actor.DELETER: "the API, deleting a file or a collection",
    Actor.PURGER: "whichever live process removes what ended long ago",
}


class Guard(Enum):
    """What must hold for a transition, in words."""

    BYTES_DURABLE = "the file's bytes are durable"
    DUE = "its pause after the last attempt is over"
    TICKET = "the ticket shown is the job's newest"
    TICKET_VANISHED = "Redis does not know the ticket any more"
    FENCE = "the fencing token shown is that of the newest claim"
    TICKET_OF_CLAIM = "the ticket shown is the one it was claimed with, by the slot's own worker"
    LEASE_OVER = "the lease of the host that claimed it is over, or that host saw its worker die"
    ASKED_TO_STOP = "somebody asked for it to stop"
    NOT_ASKED_TO_STOP = "nobody asked for it to stop"
    RETRYABLE = "the error is one that another attempt may not meet"
    NOT_RETRYABLE = "the error is one that every attempt would meet"
    ATTEMPTS_LEFT = "fewer than max_attempts attempts are counted"
    ATTEMPTS_USED_UP = "max_attempts attempts are counted"
    WORKER_LOST = "the attempt ended its worker"
    WORKER_LIVES = "the attempt left its worker alive"
    PROVIDER_AWAY = (
        "the tenant's embedding provider is known to be away, or PostgreSQL or the blob store was, and that"
        " ended the attempt"
    )
    PROVIDER_FINE = "the attempt did not end because something it needs is known to be away"
    WORKER_LEAVES = "its worker was told to leave, and ended the attempt for that"
    FILE_LIVE = "the file is not deleted"
    NEWEST = "its version is the file's newest"
    KEPT_LONG_ENOUGH = "it ended longer ago than job_retention"
    NOT_NEEDED = "it is not the newest job of a file, and no living Idempotency-Key answers with it"


#: What an actor has to show for any transition of a job that is being processed.
PROOFS: dict[Actor, tuple[Guard, ...]] = {
    Actor.WORKER: (Guard.FENCE,),
    Actor.SLOT: (Guard.TICKET_OF_CLAIM,),
    Actor.REAPER: (Guard.LEASE_OVER,),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One permitted change of a job.

    Attributes:
        name: The verb, the same in code, logs and documentation.
        actors: Who may make it.
        sources: The states it starts from; empty if there is no job yet.
        target: The state it ends in; nothing if the row is gone afterwards.
        guards: What must hold besides the proof the actor shows.
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
    "The file is written with it; the commit of this transaction is the acknowledgement.",
)
REPLACE = Transition(
    "replace",
    (Actor.REPLACER,),
    (),
    JobState.PENDING,
    (Guard.BYTES_DURABLE, Guard.FILE_LIVE),
    "As accept, for a file's next version; the jobs of older versions are stopped with it.",
)
ADMIT = Transition(
    "admit",
    (Actor.ADMITTER,),
    (JobState.PENDING,),
    JobState.QUEUED,
    (Guard.DUE,),
    "It gets a new ticket; older copies of older tickets open nothing.",
)
RING_AGAIN = Transition(
    "ring again",
    (Actor.SWEEP,),
    (JobState.QUEUED,),
    JobState.QUEUED,
    (Guard.TICKET_VANISHED,),
    "The same ticket goes to Redis once more.",
)
CLAIM = Transition(
    "claim",
    # The claim is what gives a worker its fencing token: it has none to show yet.
    (Actor.WORKER,),
    (JobState.QUEUED,),
    JobState.PROCESSING,
    (Guard.TICKET, Guard.ATTEMPTS_LEFT),
    "The attempt is counted, a new fencing token given, the configuration version pinned.",
)
GIVE_BACK = Transition(
    "give back",
    (Actor.SLOT,),
    (JobState.QUEUED,),
    JobState.PENDING,
    (Guard.TICKET,),
    "The horse died before it claimed the job: nothing was tried, so no attempt is counted. From the second"
    " time in a row on it waits, longer each time.",
)
CALL_BACK = Transition(
    "call back",
    (Actor.USER,),
    (JobState.QUEUED,),
    JobState.PENDING,
    (),
    "A pause makes its ticket void; it is admitted anew when the pause ends.",
)
PROGRESS = Transition(
    "progress",
    (Actor.WORKER,),
    (JobState.PROCESSING,),
    JobState.PROCESSING,
    (),
    "Stage, done and total are written; a request to stop is found here.",
)
COMMIT = Transition(
    "commit",
    (Actor.WORKER,),
    (JobState.PROCESSING,),
    JobState.COMPLETED,
    (Guard.NOT_ASKED_TO_STOP, Guard.FILE_LIVE, Guard.NEWEST),
    "Chunks and text of the new version replace those of the old one in the same transaction.",
)
_ENDING_ACTORS = (Actor.WORKER, Actor.SLOT, Actor.REAPER)
BACK_OFF = Transition(
    "back off",
    _ENDING_ACTORS,
    (JobState.PROCESSING,),
    JobState.PENDING,
    (Guard.NOT_ASKED_TO_STOP, Guard.PROVIDER_FINE, Guard.RETRYABLE, Guard.ATTEMPTS_LEFT),
    "The reason is kept, and the pause of the error's class begins.",
)
HOLD_BACK = Transition(
    "hold back",
    (Actor.WORKER,),
    (JobState.PROCESSING,),
    JobState.PENDING,
    (Guard.NOT_ASKED_TO_STOP, Guard.PROVIDER_AWAY),
    "It waits for what was away; an attempt that could not succeed is not counted.",
)
FAIL = Transition(
    "fail",
    (Actor.WORKER, Actor.SLOT),
    (JobState.PROCESSING,),
    JobState.FAILED,
    (Guard.NOT_ASKED_TO_STOP, Guard.PROVIDER_FINE, Guard.NOT_RETRYABLE),
    "The reason is kept.",
)
GIVE_UP = Transition(
    "give up",
    (Actor.WORKER, Actor.SLOT),
    (JobState.PROCESSING,),
    JobState.FAILED,
    (
        Guard.NOT_ASKED_TO_STOP,
        Guard.PROVIDER_FINE,
        Guard.RETRYABLE,
        Guard.ATTEMPTS_USED_UP,
        Guard.WORKER_LIVES,
    ),
    "The reason of the last attempt is the job's.",
)
QUARANTINE = Transition(
    "quarantine",
    (Actor.SLOT, Actor.REAPER),
    (JobState.PROCESSING,),
    JobState.FAILED,
    (
        Guard.NOT_ASKED_TO_STOP,
        Guard.PROVIDER_FINE,
        Guard.RETRYABLE,
        Guard.ATTEMPTS_USED_UP,
        Guard.WORKER_LOST,
    ),
    "`quarantined` is set; the reasons of all attempts are kept.",
)
RELEASE = Transition(
    "release",
    (Actor.SLOT,),
    (JobState.PROCESSING,),
    JobState.PENDING,
    (Guard.NOT_ASKED_TO_STOP, Guard.WORKER_LEAVES),
    "The attempt is not counted, and the job is admitted again at once.",
)
STOP = Transition(
    "stop",
    _ENDING_ACTORS,
    (JobState.PROCESSING,),
    JobState.CANCELLED,
    (Guard.ASKED_TO_STOP,),
    "However the attempt ended.",
)
_STOPPING_ACTORS = (Actor.USER, Actor.REPLACER, Actor.DELETER)
CANCEL = Transition(
    "cancel",
    _STOPPING_ACTORS,
    WAITING_STATES,
    JobState.CANCELLED,
    (),
    "At once; its ticket opens nothing any more.",
)
ASK_TO_STOP = Transition(
    "ask to stop",
    _STOPPING_ACTORS,
    (JobState.PROCESSING,),
    JobState.PROCESSING,
    (Guard.NOT_ASKED_TO_STOP,),
    "The worker finds the request at its next progress report, and at the latest in its commit.",
)
RETRY = Transition(
    "retry",
    (Actor.USER,),
    (JobState.FAILED, JobState.CANCELLED),
    JobState.PENDING,
    (Guard.FILE_LIVE, Guard.NEWEST),
    "Attempts count from zero; the reasons of earlier ones stay.",
)
PURGE = Transition(
    "purge",
    (Actor.PURGER,),
    ENDED_STATES,
    None,
    (Guard.KEPT_LONG_ENOUGH, Guard.NOT_NEEDED),
    "The record of the file's version goes with it.",
)
DROP = Transition(
    "drop",
    (Actor.DELETER,),
    (*LIVE_STATES, *ENDED_STATES),
    None,
    (),
    "The whole collection is deleted: jobs, files and chunks go in one transaction.",
)

#: Every permitted change; there are no others.
TRANSITIONS = (
    ACCEPT,
    REPLACE,
    ADMIT,
    RING_AGAIN,
    CLAIM,
    GIVE_BACK,
    CALL_BACK,
    PROGRESS,
    COMMIT,
    BACK_OFF,
    HOLD_BACK,
    FAIL,
    GIVE_UP,
    QUARANTINE,
    RELEASE,
    STOP,
    CANCEL,
    ASK_TO_STOP,
    RETRY,
    PURGE,
    DROP,
)


def end_of_attempt(facts: frozenset[Guard]) -> Transition:
    """Return how an attempt ends that did not commit.

    Args:
        facts: What holds, one of each pair: (not) asked to stop, provider away or fine, (not)
            retryable, attempts left or used up, worker lost or alive.
    """
    (end,) = (
        transition
        for transition in (BACK_OFF, HOLD_BACK, FAIL, GIVE_UP, QUARANTINE, STOP)
        if facts.issuperset(transition.guards)
    )
    return end
