"""Long lives of many files, made up by Hypothesis, on the real store and in a dictionary beside it.

What must hold, after every step:

- A job is in the state the dictionary says, and its counted attempts are those that were made.
- Readers see one version of a file, whole: the newest that was committed, or nothing.
- A stale holder can neither report, commit nor fail.
- Deleted stays deleted: no chunk and no text of a deleted file is left.
- What was cancelled is never completed.
- The counters equal the rows.
- A waiting job says why it waits, and no other job does.
- A tenant sees its own jobs and files and nobody else's.

And at the end, once the system was left alone for a while: every acknowledged upload is searchable, or
over with a reason that has a name.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select, text
from tests.integration.store.steps import add, collection_of, values_of

from emberq.errors import (
    Cancelled,
    CorruptFile,
    EmberqError,
    FileNotFound,
    InternalError,
    JobNotFound,
    JobTimeout,
    WorkerLost,
)
from emberq.store.admission import admit_jobs
from emberq.store.attempts import Attempt, LeaseLost, claim_job, queued_jobs, record_progress
from emberq.store.commit import commit_file
from emberq.store.failures import fail_attempt
from emberq.store.files import delete_file, get_file, list_files
from emberq.store.jobs import cancel_job, count_jobs, get_job, list_jobs, retry_job
from emberq.store.leases import beat, orphaned_jobs
from emberq.store.services import Services
from emberq.store.tables import ChunkRow, FileRow, FileVersion, Job

TENANTS = ("red", "blue")
NAMES = ("x", "y")
WORKERS = ("one", "two")
MAX_ATTEMPTS = 2
ENDED = {"completed", "failed", "cancelled"}

tenants = st.sampled_from(TENANTS)
names = st.sampled_from(NAMES)
workers = st.sampled_from(WORKERS)
anything = st.integers(0, 1000)


@dataclass
class Work:
    """A job as it should be."""

    tenant: str
    file_id: uuid.UUID
    version: int
    content: str
    state: str = "pending"
    attempt: int = 0
    ticket: str = ""
    fence: int = 0
    told_to_stop: bool = False
    reasons: list[str] = field(default_factory=list)

    def end(self, state: str, reason: str | None = None) -> None:
        self.state = state
        if reason is not None:
            self.reasons.append(reason)


@dataclass
class Paper:
    """A file as it should be."""

    file_id: uuid.UUID
    newest: uuid.UUID
    version: int = 1
    visible: str | None = None


@dataclass
class Hand:
    """A worker: what it holds, and the host it runs on."""

    host: uuid.UUID = field(default_factory=uuid.uuid4)
    attempt: Attempt | None = None
    ticket: str = ""


class StoreMachine(RuleBasedStateMachine):
    """The rules; the dictionary is `jobs`, `files` and `tickets`."""

    services: ClassVar[Services]

    def __init__(self) -> None:
        """Begin with an empty store."""
        super().__init__()
        self.jobs: dict[uuid.UUID, Work] = {}
        self.files: dict[tuple[str, str], Paper] = {}
        self.deleted: set[uuid.UUID] = set()
        #: What lies in Redis; a ticket may lie there twice.
        self.tickets: list[tuple[uuid.UUID, str]] = []
        self.hands = {name: Hand() for name in WORKERS}
        with self.transaction() as connection:
            for table in ("collections", "hosts", "idempotency_keys", "turns"):
                connection.execute(text(f"DELETE FROM {table}"))
        self.collections = {tenant: collection_of(self.services, tenant) for tenant in TENANTS}

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.services.database.transaction() as connection:
            yield connection

    def work(self, hand: Hand) -> Work:
        assert hand.attempt is not None
        return self.jobs[hand.attempt.job_id]

    def is_holder(self, hand: Hand) -> bool:
        work = self.work(hand)
        return hand.attempt is not None and (work.state, work.fence) == ("processing", hand.attempt.fence)

    def stop(self, file_id: uuid.UUID) -> None:
        for work in self.jobs.values():
            if work.file_id == file_id:
                self.stop_one(work)

    @staticmethod
    def stop_one(work: Work) -> None:
        if work.state in ("pending", "queued"):
            work.state = "cancelled"
        elif work.state == "processing":
            work.told_to_stop = True

    def choose(self, number: int) -> uuid.UUID:
        return list(self.jobs)[number % len(self.jobs)]

    # What people do.

    @rule(tenant=tenants, name=names, content=st.sampled_from(("a", "b", "c")))
    def upload(self, tenant: str, name: str, content: str) -> None:
        added = add(
            self.services,
            content,
            collection=self.collections[tenant],
            external_id=name,
            max_attempts=MAX_ATTEMPTS,
        )
        paper = self.files.get((tenant, name))
        if paper is not None:
            newest = self.jobs[paper.newest]
            will_do = newest.state == "completed" or (newest.state not in ENDED and not newest.told_to_stop)
            if newest.content == content and will_do:
                assert (added.deduplicated, added.job_id) == (True, paper.newest)
                return
            assert added.file_id == paper.file_id
            self.stop(paper.file_id)
            paper.newest, paper.version = added.job_id, paper.version + 1
        else:
            paper = self.files[tenant, name] = Paper(added.file_id, added.job_id)
        assert not added.deduplicated
        self.jobs[added.job_id] = Work(tenant, added.file_id, paper.version, content)

    @precondition(lambda self: self.files)
    @rule(number=anything)
    def delete(self, number: int) -> None:
        tenant, name = list(self.files)[number % len(self.files)]
        paper = self.files.pop((tenant, name))
        with self.transaction() as connection:
            delete_file(connection, tenant, paper.file_id)
        self.deleted.add(paper.file_id)
        self.stop(paper.file_id)

    @precondition(lambda self: self.jobs)
    @rule(number=anything)
    def cancel(self, number: int) -> None:
        job_id = self.choose(number)
        self.stop_one(self.jobs[job_id])
        with self.transaction() as connection:
            cancel_job(connection, self.jobs[job_id].tenant, job_id)

    @precondition(lambda self: any(work.state in ("failed", "cancelled") for work in self.jobs.values()))
    @rule(number=anything)
    def retry(self, number: int) -> None:
        over = [job_id for job_id, work in self.jobs.items() if work.state in ("failed", "cancelled")]
        job_id = over[number % len(over)]
        work = self.jobs[job_id]
        with self.transaction() as connection:
            retry_job(connection, work.tenant, job_id)
        if any(paper.newest == job_id for paper in self.files.values()):
            work.state, work.attempt, work.told_to_stop = "pending", 0, False

    # What the system does.

    @rule(limit=st.integers(1, 3))
    def admit(self, limit: int) -> None:
        with self.transaction() as connection:
            admitted = admit_jobs(connection, limit=limit)
        for job_id, ticket in admitted:
            work = self.jobs[job_id]
            assert work.state == "pending"
            work.state, work.ticket = "queued", ticket
        self.tickets += admitted

    @precondition(lambda self: self.tickets)
    @rule(worker=workers, number=anything)
    def claim(self, worker: str, number: int) -> None:
        hand = self.hands[worker]
        if hand.attempt is not None:
            return
        job_id, ticket = self.tickets.pop(number % len(self.tickets))
        work = self.jobs[job_id]
        with self.transaction() as connection:
            beat(connection, hand.host, name=worker, pid=1, workers=1)
            attempt = claim_job(connection, job_id, ticket=ticket, worker=worker, host_id=hand.host)
        assert (attempt is not None) == (work.state == "queued" and work.ticket == ticket)
        if attempt is not None:
            assert attempt.fence > max(known.fence for known in self.jobs.values())
            work.state, work.attempt, work.fence = "processing", work.attempt + 1, attempt.fence
            hand.attempt, hand.ticket = attempt, ticket

    @precondition(lambda self: any(hand.attempt for hand in self.hands.values()))
    @rule(worker=workers)
    def progress(self, worker: str) -> None:
        hand = self.hands[worker]
        if hand.attempt is None:
            return
        with self.refused(hand), self.transaction() as connection:
            record_progress(connection, hand.attempt, stage="embedding", done=1, total=2, timings={})

    @precondition(lambda self: any(hand.attempt for hand in self.hands.values()))
    @rule(worker=workers)
    def commit(self, worker: str) -> None:
        hand = self.hands[worker]
        if hand.attempt is None:
            return
        work = self.work(hand)
        with self.refused(hand), self.transaction() as connection:
            commit_file(
                connection,
                hand.attempt,
                text=work.content,
                media_type="text/plain",
                page_count=None,
                chunks=values_of([f"{work.content} of {work.file_id}"] * 2),
                timings={},
            )
            work.end("completed")
            self.paper(work.file_id).visible = work.content
            hand.attempt = None

    def paper(self, file_id: uuid.UUID) -> Paper:
        return next(paper for paper in self.files.values() if paper.file_id == file_id)

    @contextmanager
    def refused(self, hand: Hand) -> Iterator[None]:
        """Expect what a holder must be told: nothing, that it was asked to stop, that it is no longer one."""
        holds, told = self.is_holder(hand), self.work(hand).told_to_stop
        try:
            yield
        except LeaseLost:
            assert not holds
            hand.attempt = None
        except Cancelled:
            assert holds
            assert told
            self.end_attempt(hand, Cancelled())
        else:
            assert holds
            assert not told

    @precondition(lambda self: any(hand.attempt for hand in self.hands.values()))
    @rule(worker=workers, error=st.sampled_from([CorruptFile(), JobTimeout(), InternalError()]))
    def fail(self, worker: str, error: EmberqError) -> None:
        if self.hands[worker].attempt is not None:
            self.end_attempt(self.hands[worker], error)

    def end_attempt(self, hand: Hand, error: EmberqError) -> None:
        assert hand.attempt is not None
        holds = self.is_holder(hand)
        with self.transaction() as connection:
            state = fail_attempt(
                connection, hand.attempt.job_id, error, fence=hand.attempt.fence, retry_delay_seconds=60
            )
        assert (state is not None) == holds
        if holds:
            self.end_work(self.work(hand), error, state)
        hand.attempt = None

    def end_work(self, work: Work, error: EmberqError, state: str | None) -> None:
        if work.told_to_stop or isinstance(error, Cancelled):
            expected = "cancelled"
        elif error.retryable and work.attempt < MAX_ATTEMPTS:
            expected = "pending"
        else:
            expected = "failed"
        assert state == expected
        work.end(expected, error.code)

    # What goes wrong.

    @precondition(lambda self: any(hand.attempt for hand in self.hands.values()))
    @rule(worker=workers)
    def horse_dies(self, worker: str) -> None:
        hand = self.hands[worker]
        if hand.attempt is None:
            return
        holds = self.is_holder(hand)
        with self.transaction() as connection:
            state = fail_attempt(
                connection,
                hand.attempt.job_id,
                WorkerLost(),
                ticket=hand.ticket,
                worker=worker,
                retry_delay_seconds=60,
            )
        assert (state is not None) == holds
        if holds:
            self.end_work(self.work(hand), WorkerLost(), state)
        hand.attempt = None

    @rule(worker=workers, is_dead=st.booleans())
    def host_falls_silent(self, worker: str, is_dead: bool) -> None:
        """Its worker is dead, or a zombie that goes on."""
        hand = self.hands[worker]
        with self.transaction() as connection:
            connection.execute(
                text("UPDATE hosts SET lease_until = now() - interval '1 s' WHERE id = :id"),
                {"id": hand.host},
            )
        if is_dead:
            self.hands[worker] = Hand()

    @rule()
    def reap(self) -> None:
        with self.transaction() as connection:
            for orphan in orphaned_jobs(connection):
                state = fail_attempt(
                    connection, orphan["id"], WorkerLost(), fence=orphan["fence"], retry_delay_seconds=60
                )
                assert self.jobs[orphan["id"]].state == "processing"
                self.end_work(self.jobs[orphan["id"]], WorkerLost(), state)

    @precondition(lambda self: self.tickets)
    @rule(number=anything, again=st.booleans())
    def ticket_is_lost_or_delivered_again(self, number: int, again: bool) -> None:
        ticket = self.tickets[number % len(self.tickets)]
        if again:
            self.tickets.append(ticket)
        else:
            self.tickets.remove(ticket)

    @rule()
    def redis_forgets_everything(self) -> None:
        self.tickets.clear()

    @rule()
    def sweep(self) -> None:
        with self.transaction() as connection:
            waiting = queued_jobs(connection, older_than_seconds=0, limit=100)
        assert {job_id for job_id, _ in waiting} == {
            job_id for job_id, work in self.jobs.items() if work.state == "queued"
        }
        self.tickets += [ticket for ticket in waiting if ticket not in self.tickets]

    @rule()
    def time_passes(self) -> None:
        with self.transaction() as connection:
            connection.execute(text("UPDATE jobs SET not_before = now() WHERE not_before > now()"))

    # What must hold.

    @invariant()
    def rows_are_as_they_should_be(self) -> None:
        with self.transaction() as connection:
            rows = connection.execute(
                select(Job.id, Job.tenant, Job.state, Job.attempt, Job.attempts, Job.error_code)
            ).all()
            counted = {tenant: count_jobs(connection, tenant) for tenant in TENANTS}
        assert {row.id: (row.state, row.attempt) for row in rows} == {
            job_id: (work.state, work.attempt) for job_id, work in self.jobs.items()
        }
        for row in rows:
            work = self.jobs[row.id]
            assert [reason["code"] for reason in row.attempts] == work.reasons
            assert not (work.told_to_stop and row.state == "completed")
            assert row.attempt <= MAX_ATTEMPTS
            assert (row.error_code is not None) >= (row.state in ("failed", "cancelled"))
        for tenant in TENANTS:
            states = Counter(row.state for row in rows if row.tenant == tenant)
            assert {state: number for state, number in counted[tenant].items() if number} == states

    @invariant()
    def readers_see_one_version_whole(self) -> None:
        with self.transaction() as connection:
            found = connection.execute(
                select(ChunkRow.file_id, ChunkRow.tenant, ChunkRow.version, ChunkRow.text)
            ).all()
            rows = connection.execute(select(FileRow.id, FileRow.visible_version)).all()
            visible = {row.id: row.visible_version for row in rows}
            texts = connection.execute(select(FileVersion.file_id).where(FileVersion.text.is_not(None)))
            with_text = Counter(texts.scalars())
        expected = Counter(
            (paper.file_id, tenant, f"{paper.visible} of {paper.file_id}")
            for (tenant, _), paper in self.files.items()
            if paper.visible is not None
            for _ in range(2)
        )
        assert Counter((row.file_id, row.tenant, row.text) for row in found) == expected
        assert all(row.version == visible[row.file_id] for row in found)
        assert with_text == Counter({file_id for file_id, _, _ in expected})
        assert not self.deleted & {row.file_id for row in found}

    @rule(tenant=tenants)
    def look(self, tenant: str) -> None:
        """See, as a tenant, what is one's own, with reasons, and nothing of anybody else's."""
        with self.transaction() as connection:
            jobs = list_jobs(connection, tenant)
            files = list_files(connection, self.collections[tenant])
        assert {job["id"] for job in jobs} == {i for i, work in self.jobs.items() if work.tenant == tenant}
        for job in jobs:
            assert (job["waiting_reason"] is not None) == (job["state"] in ("pending", "queued")), job
        assert {(file["id"], file["job_id"]) for file in files} == {
            (paper.file_id, paper.newest) for (owner, _), paper in self.files.items() if owner == tenant
        }
        for job_id, work in self.jobs.items():
            if work.tenant != tenant:
                for ask in (get_job, cancel_job, retry_job):
                    with pytest.raises(JobNotFound), self.transaction() as connection:
                        ask(connection, tenant, job_id)
                with pytest.raises(FileNotFound), self.transaction() as connection:
                    get_file(connection, tenant, work.file_id)

    def teardown(self) -> None:
        """Leave the system alone: what was acknowledged comes to an end that has a name."""
        for worker in WORKERS:
            self.host_falls_silent(worker, is_dead=True)
        for _ in range(10 * (len(self.jobs) + 1)):
            if all(work.state in ENDED for work in self.jobs.values()):
                break
            for step in (self.reap, self.time_passes, self.sweep):
                step()
            self.admit(limit=100)
            while self.tickets:
                self.claim(WORKERS[0], 0)
                if self.hands[WORKERS[0]].attempt is not None:
                    self.commit(WORKERS[0])
        assert all(work.state in ENDED for work in self.jobs.values())
        for check in (self.rows_are_as_they_should_be, self.readers_see_one_version_whole):
            check()
        for paper in self.files.values():
            newest = self.jobs[paper.newest]
            assert newest.state != "completed" or paper.visible == newest.content


def test_the_store_does_what_a_dictionary_would(services: Services) -> None:
    StoreMachine.services = services
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
