"""A model of one file's life: two versions, two workers, a reaper, two attempts, and every failure.

The transitions, their actors and their guards come from `emberq.store.schema.job_states`; this module
defines what the guards mean and what the effects are. A step is one transaction, one message or one death.
A token is modelled by whether it is the newest, because that is all that is ever checked.

A host may lose its lease at any moment, so a reaped worker may well be alive. The process that takes an
upload may die at any moment: it simply takes no further step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from emberq.store.schema.job_states import (
    ACCEPT,
    ADMIT,
    CLAIM,
    DELETE,
    LIVE_STATES,
    PROGRESS,
    PROOFS,
    REPLACE,
    REQUEST_CANCEL,
    SNOOZE,
    TRANSITIONS,
    Actor,
    Guard,
    JobState,
    Transition,
)
from tests.chaos.model.search import Step
from tests.chaos.model.world import (
    GONE,
    MAX_ATTEMPTS,
    Job,
    Phase,
    State,
    Worker,
    newest_version,
    with_job,
    with_worker,
    with_workers,
)

__all__ = ["FlawedRule", "Model"]


class FlawedRule(StrEnum):
    """Rules that look right and are not; the search must find each of them."""

    NO_FENCING = "a worker commits if the job is being processed, whichever attempt it is"
    REAP_WITHOUT_COUNTING = "attempts are counted when they fail politely, not when they begin"
    DELETE_WITHOUT_TOMBSTONE = "a deletion cancels what waits and leaves no mark for what runs"
    ACKNOWLEDGE_BEFORE_COMMIT = "an upload is acknowledged once its bytes are stored"
    CANCEL_IN_TWO_STATEMENTS = "one statement cancels waiting jobs, the next asks running ones to stop"
    END_BY_TICKET_ALONE = "a slot ends whatever attempt its ticket belongs to"
    COMMIT_IN_ANY_ORDER = "a replacement leaves the old version's job alone, and any version commits"
    COMPLETE_BEFORE_STORING = "the job is completed in one transaction and its chunks stored in the next"
    NO_SWEEP = "no process looks for missing tickets"
    NO_REAPER = "no process takes over the jobs of dead hosts"


class Facts(NamedTuple):
    """The facts by which a guard is checked."""

    state: State
    job: int
    worker: Worker
    error: frozenset[Guard]

    @property
    def its(self) -> Job:
        """The job."""
        return self.state.jobs[self.job]


#: How an attempt can end without a commit while its worker lives: the file is at fault, the moment is,
#: the embedding provider is away, or it rejects the file while it rejects all files.
_POLITE_ERRORS = (
    frozenset({Guard.NOT_RETRYABLE, Guard.WORKER_ALIVE}),
    frozenset({Guard.RETRYABLE, Guard.WORKER_ALIVE}),
    frozenset({Guard.RETRYABLE, Guard.WORKER_ALIVE, Guard.OUTAGE}),
    frozenset({Guard.NOT_RETRYABLE, Guard.WORKER_ALIVE, Guard.OUTAGE}),
)
_WORKER_GONE = frozenset({Guard.RETRYABLE, Guard.WORKER_LOST})
#: A slot sees its horse die, or ends it because the job took too long, for the first or the second time.
_ERRORS_OF = {Actor.WORKER: _POLITE_ERRORS, Actor.SLOT: (_WORKER_GONE, *_POLITE_ERRORS[:2])}
_PLAIN_ERROR_GUARDS = (
    Guard.RETRYABLE,
    Guard.NOT_RETRYABLE,
    Guard.WORKER_ALIVE,
    Guard.WORKER_LOST,
)
_ERROR_GUARDS = frozenset({*_PLAIN_ERROR_GUARDS, Guard.OUTAGE, Guard.NO_OUTAGE})


def _is_excused(facts: Facts) -> bool:
    """Tell whether the attempt ended because of the provider: a refusal is believed in the end."""
    may_be = Guard.RETRYABLE in facts.error or facts.its.attempt < MAX_ATTEMPTS
    return Guard.OUTAGE in facts.error and may_be


def _is_newest(facts: Facts) -> bool:
    return newest_version(facts.state) == facts.job + 1


def _met(guard: Guard, facts: Facts) -> bool:
    return guard in facts.error


_MEANING: dict[Guard, Callable[[Facts], bool]] = {
    Guard.BYTES_DURABLE: lambda facts: facts.its.bytes_durable,
    # Pauses end, leases run out, workers are told to leave, retention passes: at any moment, as far as the
    # model knows.
    Guard.DUE: lambda facts: True,
    Guard.LEASE_EXPIRED: lambda facts: True,
    Guard.WORKER_STOPPING: lambda facts: True,
    Guard.RETENTION_OVER: lambda facts: True,
    Guard.TICKET: lambda facts: facts.worker.has_newest_ticket,
    Guard.TICKET_MISSING: lambda facts: not facts.its.ticket_waits,
    Guard.FENCE: lambda facts: facts.worker.has_newest_fence,
    Guard.TICKET_OF_CLAIM: lambda facts: facts.worker.has_newest_ticket and facts.worker.has_newest_fence,
    Guard.CANCEL_REQUESTED: lambda facts: facts.its.cancel_requested,
    Guard.CANCEL_NOT_REQUESTED: lambda facts: not facts.its.cancel_requested,
    Guard.ATTEMPTS_LEFT: lambda facts: facts.its.attempt < MAX_ATTEMPTS,
    Guard.ATTEMPTS_EXHAUSTED: lambda facts: facts.its.attempt >= MAX_ATTEMPTS,
    Guard.FILE_LIVE: lambda facts: not facts.state.deleted,
    Guard.NEWEST: _is_newest,
    Guard.NOT_NEEDED: lambda facts: facts.state.deleted or not _is_newest(facts),
    Guard.OUTAGE: _is_excused,
    Guard.NO_OUTAGE: lambda facts: not _is_excused(facts),
    **{guard: partial(_met, guard) for guard in _PLAIN_ERROR_GUARDS},
}

_FLAWED_MEANING: dict[FlawedRule, dict[Guard, Callable[[Facts], bool]]] = {
    FlawedRule.NO_FENCING: {Guard.FENCE: lambda facts: True},
    FlawedRule.DELETE_WITHOUT_TOMBSTONE: {Guard.FILE_LIVE: lambda facts: True},
    FlawedRule.END_BY_TICKET_ALONE: {Guard.TICKET_OF_CLAIM: lambda facts: facts.worker.has_newest_ticket},
    FlawedRule.COMMIT_IN_ANY_ORDER: {Guard.NEWEST: lambda facts: True},
}


def _uncount(state: State, index: int) -> State:
    job = state.jobs[index]
    return with_job(state, index, attempt=job.attempt - 1, claims=job.claims - 1)


#: The transitions out of a state, and those that make a job. Dropping a collection is left out: nothing
#: remains that could be judged.
_OUT_OF: dict[JobState | str | None, tuple[Transition, ...]] = {
    state: tuple(
        transition
        for transition in TRANSITIONS
        if (state in transition.sources or (state is None and not transition.sources))
        and transition is not DELETE
    )
    for state in (None, *JobState)
}


class Model:
    """The steps of the model, under the rules of the store or with one of them flawed."""

    def __init__(self, flaw: FlawedRule | None = None, *, versions: int = 2) -> None:
        """Take the rules as they are, or with one flaw; a file may have one version or two."""
        self._flaw = flaw
        self._versions = versions
        self._meaning = _MEANING | (_FLAWED_MEANING.get(flaw, {}) if flaw else {})

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield everything that can happen next."""
        yield from self._client_steps(state)
        for index, job in enumerate(state.jobs):
            if job.state is None and newest_version(state) != index:
                continue
            for transition in _OUT_OF.get(job.state, ()):
                for actor in transition.actors:
                    for agent in self._agents(state, index, actor, transition):
                        yield from self._moves(state, index, transition, actor, agent)
        yield from self._message_steps(state)
        yield from self._late_steps(state)
        yield from self._deaths(state)

    def _client_steps(self, state: State) -> Iterator[Step[State]]:
        for index, job in enumerate(state.jobs):
            version = index + 1
            may_upload = not state.deleted and newest_version(state) == index < self._versions
            if job.state is None and may_upload and not job.bytes_durable:
                yield Step(
                    f"api stores the bytes of v{version}", with_job(state, index, bytes_durable=True), False
                )
            # Acknowledging what is written changes nothing; the flawed rule is about what is not.
            is_early = self._flaw is FlawedRule.ACKNOWLEDGE_BEFORE_COMMIT and job.state is None
            if is_early and job.bytes_durable and not job.acknowledged:
                yield Step(f"api acknowledges v{version}", with_job(state, index, acknowledged=True), False)
        if newest_version(state) and not state.deleted:
            after = state._replace(deleted=True, visible_version=0, chunks_of=0)
            after = self._stop_all(after, Actor.DELETER)
            yield Step("deleter deletes the file", after, False)
        if state.cancelling:
            index = state.cancelling - 1
            after = state._replace(cancelling=0)
            if state.jobs[index].state == JobState.PROCESSING:
                after = with_job(after, index, cancel_requested=True)
            if state.jobs[index].state in LIVE_STATES:
                after = with_job(after, index, told_cancelled=True)
            yield Step(f"user cancel v{index + 1}, second statement", after, False)

    def _stop_all(self, state: State, actor: Actor, *, below: int = 2) -> State:
        """Let an actor stop whatever jobs it may, as part of its own transaction."""
        for index, job in enumerate(state.jobs[:below]):
            for transition in _OUT_OF.get(job.state, ()):
                if transition is REQUEST_CANCEL and self._flaw is FlawedRule.DELETE_WITHOUT_TOMBSTONE:
                    continue
                if actor in transition.actors:
                    state = with_job(
                        state, index, state=transition.target, cancel_requested=True, told_cancelled=True
                    )
        return state

    def _agents(self, state: State, index: int, actor: Actor, transition: Transition) -> list[int | None]:
        """Return the workers that may act as this actor now, or one nameless agent."""
        if actor in (Actor.WORKER, Actor.SLOT):
            phase = Phase.HORSELESS
            if actor is Actor.WORKER:
                phase = Phase.POPPED if transition.sources == (JobState.QUEUED,) else Phase.WORKING
            return [
                number
                for number, worker in enumerate(state.workers)
                if worker.phase is phase and worker.job == index
            ]
        if actor in (Actor.DELETER, Actor.REPLACER) and transition.sources:
            return []  # within their own transactions, see `_stop_all`
        if actor is Actor.SWEEPER and self._flaw is FlawedRule.NO_SWEEP:
            return []
        if actor is Actor.REAPER and self._flaw is FlawedRule.NO_REAPER:
            return []
        if (transition is ACCEPT and index > 0) or (transition is REPLACE and index == 0):
            return []
        return [None]

    def _moves(
        self, state: State, index: int, transition: Transition, actor: Actor, agent: int | None
    ) -> Iterator[Step[State]]:
        worker = Worker() if agent is None else state.workers[agent]
        guards = transition.guards
        if JobState.PROCESSING in transition.sources:
            guards += PROOFS.get(actor, ())
        counted = self._count_polite_end(state, index, transition, actor)
        for error in _ERRORS_OF.get(actor, (_WORKER_GONE,)):
            facts = Facts(counted, index, worker, error)
            if all(self._meaning[guard](facts) for guard in guards):
                after = self._effect(counted, index, transition, agent)
                if transition is SNOOZE and Guard.RETRYABLE in error:
                    after = _uncount(after, index)
                ends = JobState.PROCESSING in transition.sources and agent is not None
                stale = ends and not worker.has_newest_fence
                what = f"{actor} {transition.name} v{index + 1}{' [stale]' * stale}"
                by_itself = actor not in (
                    Actor.USER,
                    Actor.REPLACER,
                    Actor.DELETER,
                    Actor.UPLOADER,
                    Actor.PURGER,
                )
                if after != state:
                    yield Step(what, after, by_itself)
            if not _ERROR_GUARDS.intersection(guards):
                break

    def _count_polite_end(self, state: State, index: int, transition: Transition, actor: Actor) -> State:
        if (
            self._flaw is FlawedRule.REAP_WITHOUT_COUNTING
            and actor is Actor.WORKER
            and _ERROR_GUARDS.intersection(transition.guards)
        ):
            return with_job(state, index, attempt=state.jobs[index].attempt + 1)
        return state

    def _effect(self, state: State, index: int, transition: Transition, agent: int | None) -> State:
        after = with_job(state, index, state=transition.target or GONE)
        match transition.name:
            case "replace" if self._flaw is not FlawedRule.COMMIT_IN_ANY_ORDER:
                after = self._stop_all(after, Actor.REPLACER, below=index)
            case "admit" | "enqueue again":
                after = with_job(after, index, ticket_waits=True)
            case "claim":
                job = state.jobs[index]
                counts = self._flaw is not FlawedRule.REAP_WITHOUT_COUNTING
                after = with_job(after, index, attempt=job.attempt + counts, claims=job.claims + 1)
            case "commit" if self._flaw is not FlawedRule.COMPLETE_BEFORE_STORING:
                after = after._replace(visible_version=index + 1, chunks_of=index + 1)
            case "request cancel" if self._flaw is FlawedRule.CANCEL_IN_TWO_STATEMENTS:
                after = after._replace(cancelling=index + 1)
            case "cancel" | "request cancel":
                after = with_job(after, index, cancel_requested=True, told_cancelled=True)
            case "release":
                after = _uncount(after, index)
            case "retry":
                after = with_job(
                    after, index, attempt=0, claims=0, cancel_requested=False, told_cancelled=False
                )
            case name if name not in _NOTHING_ELSE:
                msg = f"The model does not know what {name!r} changes."
                raise NotImplementedError(msg)
        return with_workers(after, self._workers_after(state, index, transition, agent))

    def _workers_after(
        self, state: State, index: int, transition: Transition, agent: int | None
    ) -> list[Worker]:
        """Free or occupy the worker that acts, and outdate the tokens of the others."""
        workers = [
            worker._replace(
                has_newest_ticket=worker.has_newest_ticket and transition is not ADMIT,
                has_newest_fence=worker.has_newest_fence and transition is not CLAIM,
            )
            if worker.job == index
            else worker
            for worker in state.workers
        ]
        if agent is not None and transition is not PROGRESS:
            workers[agent] = self._worker_after(index, transition)
        return workers

    def _worker_after(self, index: int, transition: Transition) -> Worker:
        if transition.name == "claim":
            return Worker(Phase.WORKING, index, has_newest_ticket=True, has_newest_fence=True)
        if transition.name == "commit" and self._flaw is FlawedRule.COMPLETE_BEFORE_STORING:
            return Worker(Phase.STORING, index)
        return Worker()

    def _message_steps(self, state: State) -> Iterator[Step[State]]:
        """Tickets are popped, lost, or delivered once more."""
        taker = next((n for n, worker in enumerate(state.workers) if worker.phase is Phase.IDLE), None)
        for index, job in enumerate(state.jobs):
            name = f"v{index + 1}"
            if taker is not None and job.ticket_waits:
                after = with_worker(state, taker, Worker(Phase.POPPED, index, has_newest_ticket=True))
                yield Step(f"worker pops {name}", with_job(after, index, ticket_waits=False), True)
            is_out = any(worker.has_newest_ticket and worker.job == index for worker in state.workers)
            if is_out and not job.ticket_waits:
                yield Step(f"redis delivers {name} again", with_job(state, index, ticket_waits=True), False)
        if any(job.ticket_waits for job in state.jobs):
            one, two = (job._replace(ticket_waits=False) for job in state.jobs)
            yield Step("redis forgets everything", state._replace(jobs=(one, two)), False)

    def _late_steps(self, state: State) -> Iterator[Step[State]]:
        """Workers find that their ticket or attempt is outdated."""
        for number, worker in enumerate(state.workers):
            job = state.jobs[worker.job]
            too_late = {
                Phase.POPPED: job.state != JobState.QUEUED or not worker.has_newest_ticket,
                Phase.WORKING: job.state != JobState.PROCESSING or not worker.has_newest_fence,
                Phase.HORSELESS: True,
            }
            if too_late.get(worker.phase, False):
                what = f"{worker.phase} worker of v{worker.job + 1} finds nothing left to do"
                yield Step(what, with_worker(state, number, Worker()), True)
            if worker.phase is Phase.STORING:
                version = worker.job + 1
                after = with_worker(state, number, Worker())
                if not state.deleted:
                    after = after._replace(visible_version=version, chunks_of=version)
                yield Step(f"worker stores v{version}", after, True)

    def _deaths(self, state: State) -> Iterator[Step[State]]:
        for number, worker in enumerate(state.workers):
            if worker.phase is Phase.IDLE:
                continue  # another one takes its place at once
            what = f"of the {worker.phase} worker of v{worker.job + 1} dies"
            yield Step(f"host {what}", with_worker(state, number, Worker()), False)
            if worker.phase in (Phase.POPPED, Phase.WORKING):
                after = worker._replace(phase=Phase.HORSELESS)
                yield Step(f"horse {what}", with_worker(state, number, after), False)


#: Transitions that change the job's state and, at most, free its worker.
_NOTHING_ELSE = {
    "accept",
    "replace",
    "progress",
    "commit",
    "back off",
    "fail",
    "exhaust",
    "quarantine",
    "stop",
    "requeue",
    "revoke",
    "snooze",
    "purge",
}
