"""Tickets reach Redis when a job comes and when one ends, and Redis may be away meanwhile."""

from __future__ import annotations

import pytest
from rq.job import Job as Ticket
from rq.serializers import JSONSerializer

from emberq.dispatch.admit import admit, admit_soon, on_ended
from emberq.dispatch.tickets import open_queue
from emberq.errors import RedisUnavailable
from emberq.store.services import Services
from tests.integration.store.crowd import Crowd


@pytest.fixture
def crowd(services: Services) -> Crowd:
    made = Crowd(services)
    made.lease(1)
    return made


def test_the_end_of_a_job_fills_its_place(crowd: Crowd, services: Services) -> None:
    crowd.add("a", 3)
    assert admit(services, job_timeout_seconds=60) == 1
    assert admit(services, job_timeout_seconds=60) == 0
    queue = open_queue(services.redis())
    [first] = queue.job_ids
    ticket = Ticket.fetch(first, connection=services.redis(), serializer=JSONSerializer)
    assert ticket.success_callback is on_ended
    crowd.put("UPDATE jobs SET state = 'completed' WHERE state = 'queued'")
    ticket.success_callback(ticket, services.redis(), "completed")
    assert len(queue.job_ids) == 2


def test_tickets_lie_in_redis_in_the_order_they_were_chosen(crowd: Crowd, services: Services) -> None:
    crowd.lease(7)
    crowd.add("flood", 50)
    crowd.add("small", 2)
    admit(services, job_timeout_seconds=60)
    tickets = open_queue(services.redis()).job_ids
    tenants = {
        row.ticket: row.tenant for row in crowd.sql("SELECT ticket, tenant FROM jobs WHERE state = 'queued'")
    }
    assert [tenants[ticket] for ticket in tickets] == ["flood", "small"] * 2 + ["flood"] * 4


def test_a_silent_redis_postpones_admission_and_nothing_else(
    crowd: Crowd, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object, **_options: object) -> None:
        raise RedisUnavailable

    crowd.add("a")
    monkeypatch.setattr("emberq.dispatch.admit.enqueue", away)
    with pytest.raises(RedisUnavailable):
        admit(services, job_timeout_seconds=60)
    crowd.put("UPDATE jobs SET state = 'pending'")
    admit_soon(services)
    assert crowd.sql("SELECT state FROM jobs") == [("queued",)], "the sweep enqueues it"
