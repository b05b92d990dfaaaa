"""Files and jobs that live on the store, and in a dictionary beside it that says how they should be."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, text

from emberq.errors import (
    Cancelled,
    EmberqError,
    FileNotFound,
    JobNotFound,
    WorkerLost,
)
from emberq.store.admin.hosts import jobs_of_expired_hosts, renew_lease
from emberq.store.files.commit import commit_file
from emberq.store.files.files import delete_file, get_file, list_files
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import LeaseLost, claim_job, record_progress, unclaimed_jobs
from emberq.store.jobs.finish import fail_attempt
from emberq.store.jobs.queries import cancel_job, count_jobs, get_job, list_jobs, retry_job
from emberq.store.services import Services
from tests.integration.store.machine.checks import readers_see_one_version_whole, rows_are_as_they_should_be
from tests.integration.store.machine.ledger import (
    ACTS,
    DONE_BY_PEOPLE,
    ENDED,
    ERRORS,
    FILES,
    MAX_ATTEMPTS,
    TENANTS,
    WORKERS,
    Hand,
    Paper,
    Work,
)
from tests.integration.store.steps import add, collection_of, values_of

__all__ = ["Lives"]


class Lives:
    """What can happen to files and jobs, on the store and in the dictionary (`jobs`, `files`) at once."""

    def __init__(self, services: Services, seen: Counter[str]) -> None:
        """Begin with an empty store; `seen` counts what the test would be worth nothing without."""
        self.services = services
        self.seen = seen
        self.jobs: dict[uuid.UUID, Work] = {}
        self.files: dict[tuple[str, str], Paper] = {}
        self.deleted: set[uuid.UUID] = set()
        #: What lies in Redis; a ticket may lie there twice.
        self.tickets: list[tuple[uuid.UUID, str]] = []
        self.hands = {name: Hand() for name in WORKERS}
        with self.transaction() as connection:
            for table in ("collections", "hosts", "idempotency_keys", "turns"):
                connection.execute(text(f"DELETE FROM {table}"))
        self.collections = {tenant: collection_of(services, tenant) for tenant in TENANTS}

    def go_on(self, what: str, number: int) -> None:
        """Let one thing happen; the number chooses to whom, and what cannot happen now does not."""
        busy = self.pick(number, idle=False)
        if what in ACTS and busy:
            self.act(busy, what)
        elif what in DONE_BY_PEOPLE:
            self.intervene(what, number)
        elif what in ("take", "take late"):
            self.take(number, fresh=what == "take")
        elif what in ("zombie", "host dies"):
            self.host_falls_silent(busy or WORKERS[0], is_dead=what == "host dies")
        elif what == "sweep":
            self.sweep()
        elif what == "look":
            self.look(TENANTS[number % len(TENANTS)])
        elif "ticket" in what:
            self.tickets_go_astray(number, what)

    def intervene(self, what: str, number: int) -> None:
        """Let people do something."""
        if what == "upload":
            self.upload(FILES[number % len(FILES)], "ab"[number // len(FILES) % 2])
        elif what == "replace":
            self.replace(number)
        elif what == "delete" and self.files:
            self.delete(number)
        elif what == "cancel" and self.jobs:
            self.cancel(number)
        elif what == "retry" and self.jobs:
            self.retry(number)

    def transaction(self) -> AbstractContextManager[Connection]:
        return self.services.database.system_transaction()

    def pick(self, number: int, *, idle: bool) -> str | None:
        """Choose a worker that holds nothing, or one that holds an attempt."""
        fit = [name for name, hand in self.hands.items() if (hand.attempt is None) is idle]
        return fit[number % len(fit)] if fit else None

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

    def stop_one(self, work: Work) -> None:
        if work.state in ("pending", "queued"):
            work.state = "cancelled"
        elif work.state == "processing":
            work.told_cancelled = True
            self.seen["a job at work asked to stop"] += 1

    def choose(self, number: int) -> uuid.UUID:
        return list(self.jobs)[number % len(self.jobs)]

    # What people do.

    def upload(self, file: tuple[str, str], content: str) -> None:
        tenant, name = file
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
            will_do = newest.state == "completed" or (newest.state not in ENDED and not newest.told_cancelled)
            if newest.content == content and (will_do or newest.quarantined):
                assert (added.outcome, added.job_id) == ("unchanged", paper.newest)
                return
            if newest.content == content and newest.state in ENDED:
                assert (added.outcome, added.job_id) == ("retried", paper.newest)
                newest.retry()
                self.seen["a job retried by an upload"] += 1
                return
            assert added.outcome == "replaced"
            assert added.file_id == paper.file_id
            self.seen["a version replaced while it was processed"] += newest.state == "processing"
            self.stop(paper.file_id)
            paper.newest, paper.version = added.job_id, paper.version + 1
        else:
            paper = self.files[tenant, name] = Paper(added.file_id, added.job_id)
        assert not added.deduplicated
        self.jobs[added.job_id] = Work(tenant, added.file_id, paper.version, content)

    def replace(self, number: int) -> None:
        """Upload a file anew while an attempt at it runs."""
        at_work = [
            file for file, paper in self.files.items() if self.jobs[paper.newest].state == "processing"
        ]
        if at_work:
            file = at_work[number % len(at_work)]
            self.upload(file, "b" if self.jobs[self.files[file].newest].content == "a" else "a")

    def delete(self, number: int) -> None:
        tenant, name = list(self.files)[number % len(self.files)]
        paper = self.files.pop((tenant, name))
        with self.transaction() as connection:
            delete_file(connection, tenant, paper.file_id)
        self.seen["a visible file deleted"] += paper.visible is not None
        self.deleted.add(paper.file_id)
        self.stop(paper.file_id)

    def cancel(self, number: int) -> None:
        live = [job_id for job_id, work in self.jobs.items() if work.state not in ENDED]
        job_id = live[number % len(live)] if live else self.choose(number)
        self.stop_one(self.jobs[job_id])
        with self.transaction() as connection:
            cancel_job(connection, self.jobs[job_id].tenant, job_id)

    def retry(self, number: int) -> None:
        over = [job_id for job_id, work in self.jobs.items() if work.state in ("failed", "cancelled")]
        job_id = over[number % len(over)] if over else self.choose(number)
        work = self.jobs[job_id]
        with self.transaction() as connection:
            retry_job(connection, work.tenant, job_id)
        if over and any(paper.newest == job_id for paper in self.files.values()):
            work.retry()
            self.seen["a job retried"] += 1

    # What the system does.

    def admit(self, *, limit: int) -> None:
        with self.transaction() as connection:
            admitted = admit_jobs(connection, limit=limit)
        for job_id, ticket in admitted:
            work = self.jobs[job_id]
            assert work.state == "pending"
            work.state, work.ticket = "queued", ticket
        self.tickets += admitted

    def claim(self, worker: str, number: int) -> None:
        hand = self.hands[worker]
        job_id, ticket = self.tickets.pop(number % len(self.tickets))
        work = self.jobs[job_id]
        with self.transaction() as connection:
            renew_lease(connection, hand.host, name=worker, pid=1, workers=1)
            # Only the rules end a lease: a slow machine must not.
            connection.execute(
                text("UPDATE hosts SET lease_until = now() + interval '1 day' WHERE id = :id"),
                {"id": hand.host},
            )
            attempt = claim_job(connection, job_id, ticket=ticket, worker=worker, host_id=hand.host)
        assert (attempt is not None) == (work.state == "queued" and work.ticket == ticket)
        if attempt is not None:
            assert attempt.fence > max(known.fence for known in self.jobs.values())
            work.state, work.attempt, work.fence = "processing", work.attempt + 1, attempt.fence
            hand.attempt, hand.ticket = attempt, ticket
        self.seen["a ticket that opened nothing"] += attempt is None

    def take(self, number: int, *, fresh: bool) -> None:
        """Let an idle worker take a ticket: any that lies there, or one admitted just now."""
        worker = self.pick(number, idle=True)
        if fresh:
            self.time_passes()
            self.admit(limit=1)
            number = len(self.tickets) - 1
        if self.tickets and worker is not None:
            self.claim(worker, number)

    def act(self, worker: str, how: str) -> None:
        """Let a worker that holds an attempt go on with it, end it, or die of it."""
        hand = self.hands[worker]
        match how:
            case "progress":
                with self.refused(hand), self.transaction() as connection:
                    assert hand.attempt is not None
                    record_progress(connection, hand.attempt, stage="embedding", done=1, total=2, timings={})
            case "commit":
                self.commit(hand)
            case "horse dies":
                # Its slot reports, which knows the ticket only.
                self.end_attempt(hand, WorkerLost(), ticket=hand.ticket, worker=worker)
            case _:
                self.end_attempt(hand, ERRORS[how])

    def commit(self, hand: Hand) -> None:
        assert hand.attempt is not None
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
            paper = self.paper(work.file_id)
            self.seen["a visible version replaced"] += paper.visible is not None
            paper.visible = work.content
            hand.attempt = None

    def paper(self, file_id: uuid.UUID) -> Paper:
        return next(paper for paper in self.files.values() if paper.file_id == file_id)

    @contextmanager
    def refused(self, hand: Hand) -> Iterator[None]:
        """Expect what a holder must be told: nothing, that it was asked to stop, that it is no longer one."""
        holds, told = self.is_holder(hand), self.work(hand).told_cancelled
        try:
            yield
        except LeaseLost:
            assert not holds
            hand.attempt = None
            self.seen["a stale holder refused"] += 1
        except Cancelled:
            assert holds
            assert told
            self.seen["a holder told to stop"] += 1
            self.end_attempt(hand, Cancelled())
        else:
            assert holds
            assert not told

    def end_attempt(self, hand: Hand, error: EmberqError, **shown: str) -> None:
        assert hand.attempt is not None
        holds = self.is_holder(hand)
        proof: dict[str, Any] = {**shown} or {"fence": hand.attempt.fence}
        with self.transaction() as connection:
            state = fail_attempt(connection, hand.attempt.job_id, error, **proof, retry_delay_seconds=60)
        assert (state is not None) == holds
        if holds:
            self.end_work(self.work(hand), error, state)
        hand.attempt = None

    def end_work(self, work: Work, error: EmberqError, state: str | None) -> None:
        if work.told_cancelled or isinstance(error, Cancelled):
            expected = "cancelled"
        elif error.retryable and work.attempt < MAX_ATTEMPTS:
            expected = "pending"
        else:
            expected = "failed"
        assert state == expected
        work.quarantined = expected == "failed" and isinstance(error, WorkerLost)
        work.end(expected, error.code)
        self.seen["attempts used up"] += expected == "failed" and error.retryable

    # What goes wrong, and what finds it.

    def host_falls_silent(self, worker: str, *, is_dead: bool) -> None:
        """Its jobs are taken over; its worker is dead, or a zombie that goes on."""
        with self.transaction() as connection:
            connection.execute(
                text("UPDATE hosts SET lease_until = now() - interval '1 s' WHERE id = :id"),
                {"id": self.hands[worker].host},
            )
        if is_dead:
            self.hands[worker] = Hand()
        self.reap()

    def reap(self) -> None:
        with self.transaction() as connection:
            for orphan in jobs_of_expired_hosts(connection):
                state = fail_attempt(
                    connection, orphan["id"], WorkerLost(), fence=orphan["fence"], retry_delay_seconds=60
                )
                assert self.jobs[orphan["id"]].state == "processing"
                self.seen["a job reaped"] += 1
                self.end_work(self.jobs[orphan["id"]], WorkerLost(), state)

    def tickets_go_astray(self, number: int, what: str) -> None:
        if what == "all tickets lost":
            self.admit(limit=2)
            self.tickets.clear()
        elif self.tickets:
            ticket = self.tickets[number % len(self.tickets)]
            if what == "ticket twice":
                self.tickets.append(ticket)
            else:
                self.tickets.remove(ticket)

    def sweep(self) -> None:
        with self.transaction() as connection:
            waiting = unclaimed_jobs(connection, older_than_seconds=0, limit=100)
        assert {job_id for job_id, _ in waiting} == {
            job_id for job_id, work in self.jobs.items() if work.state == "queued"
        }
        lost = [ticket for ticket in waiting if ticket not in self.tickets]
        self.seen["a lost ticket found"] += len(lost)
        self.tickets += lost

    def time_passes(self) -> None:
        with self.transaction() as connection:
            connection.execute(text("UPDATE jobs SET not_before = now() WHERE not_before > now()"))

    # What must hold.

    def check(self) -> None:
        with self.transaction() as connection:
            rows_are_as_they_should_be(connection, self.jobs)
            readers_see_one_version_whole(connection, self.files, self.deleted)

    def look(self, tenant: str) -> None:
        """See, as a tenant, what is one's own, with reasons, and nothing of anybody else's."""
        with self.transaction() as connection:
            jobs = list_jobs(connection, tenant)
            files = list_files(connection, self.collections[tenant])
            counted = count_jobs(connection, tenant)
        assert {state: number for state, number in counted.items() if number} == Counter(
            work.state for work in self.jobs.values() if work.tenant == tenant
        )
        assert {job["id"] for job in jobs} == {i for i, work in self.jobs.items() if work.tenant == tenant}
        for job in jobs:
            assert (job["waiting_reason"] is not None) == (job["state"] in ("pending", "queued")), job
        assert {(file["id"], file["job_id"]) for file in files} == {
            (paper.file_id, paper.newest) for (owner, _), paper in self.files.items() if owner == tenant
        }
        foreign = next((job_id for job_id, work in self.jobs.items() if work.tenant != tenant), None)
        if foreign is not None:
            for ask in (get_job, cancel_job, retry_job):
                with pytest.raises(JobNotFound), self.transaction() as connection:
                    ask(connection, tenant, foreign)
            with pytest.raises(FileNotFound), self.transaction() as connection:
                get_file(connection, tenant, self.jobs[foreign].file_id)

    def settle(self) -> None:
        """Leave the system alone: what was acknowledged comes to an end that has a name."""
        for worker in WORKERS:
            self.host_falls_silent(worker, is_dead=True)
        for _ in range(10 * (len(self.jobs) + 1)):
            if all(work.state in ENDED for work in self.jobs.values()):
                break
            self.time_passes()
            self.sweep()
            self.admit(limit=100)
            while self.tickets:
                self.claim(WORKERS[0], 0)
                if self.hands[WORKERS[0]].attempt is not None:
                    self.commit(self.hands[WORKERS[0]])
        assert all(work.state in ENDED for work in self.jobs.values())
        self.check()
        for paper in self.files.values():
            newest = self.jobs[paper.newest]
            assert newest.state != "completed" or paper.visible == newest.content
