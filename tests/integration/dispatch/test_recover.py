"""What dead and leaving workers held comes back: popped tickets, running attempts."""

from __future__ import annotations

from typing import Any

import pytest
from rq.job import Job as Ticket
from rq.serializers import JSONSerializer

from emberq.dispatch import recover
from emberq.dispatch.admit import admit
from emberq.dispatch.recover import on_horse_death, sweep
from emberq.dispatch.tickets import missing_tickets, open_queue
from emberq.store.jobs.claim import claim_job
from emberq.store.services import Services
from emberq.worker.horse.watchdog import REQUEUED, HorseDeath
from tests.integration.store.steps import add, job


@pytest.fixture
def popped(services: Services) -> str:
    """Return a ticket that a worker popped, as RQ does with one queue, before anything else."""
    add(services)
    admit(services, job_timeout_seconds=60)
    queue, redis = open_queue(services.redis()), services.redis()
    ticket: Any = redis.lmove(queue.key, queue.intermediate_queue_key)
    return str(ticket.decode())


def test_a_ticket_popped_by_a_worker_that_died_is_rung_again_within_a_sweep(
    services: Services, popped: str
) -> None:
    assert sweep(services, job_timeout_seconds=60) == 0, "it may be claimed any moment"
    assert sweep(services, job_timeout_seconds=60, after_seconds=0.0) == 1
    assert open_queue(services.redis()).job_ids == [popped]
    assert sweep(services, job_timeout_seconds=60, after_seconds=0.0) == 0, "it waits in the queue"


def test_a_ticket_that_is_claimed_while_the_sweep_looks_is_not_enqueued_again(
    services: Services, popped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_and_claim(*args: Any) -> Any:
        missing = missing_tickets(*args)
        ticket = Ticket.fetch(popped, connection=services.redis(), serializer=JSONSerializer)
        with services.database.system_transaction() as connection:
            assert claim_job(connection, ticket.args[0], ticket=popped, worker="w", host_id=None)
        return missing

    monkeypatch.setattr(recover, "missing_tickets", look_and_claim)
    assert sweep(services, job_timeout_seconds=60, after_seconds=0.0) == 0
    assert open_queue(services.redis()).job_ids == []


@pytest.mark.parametrize(
    ("death", "attempt", "reasons"),
    [(REQUEUED, 0, []), (HorseDeath("killed", "signal 9"), 1, ["worker_lost"])],
    ids=["the worker leaves", "the horse was killed"],
)
def test_only_an_attempt_cut_off_by_a_leaving_worker_is_not_counted(
    services: Services, popped: str, death: HorseDeath, attempt: int, reasons: list[str]
) -> None:
    ticket = Ticket.fetch(popped, connection=services.redis(), serializer=JSONSerializer)
    with services.database.system_transaction() as connection:
        claimed = claim_job(connection, ticket.args[0], ticket=popped, worker="w", host_id=None)
    assert claimed is not None
    on_horse_death("w", ticket, death)
    row = job(services, claimed.job_id)
    assert (row["state"], row["attempt"]) == ("queued", attempt), "it is out again at once"
    assert [reason["code"] for reason in row["attempts"]] == reasons
    assert row["ticket"] != popped
