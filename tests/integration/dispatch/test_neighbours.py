"""Processes on the same machine see at once that a host died."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from rq.job import Job as Ticket
from rq.serializers import JSONSerializer

from emberq.dispatch.admit import admit
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.recover import reap_dead_neighbours
from emberq.dispatch.tickets import open_queue
from emberq.store.admin.hosts import list_hosts, renew_lease
from emberq.store.jobs.claim import claim_job
from emberq.store.services import Services
from emberq.system.machine import machine_identity
from emberq.system.processes import process_identity
from tests.integration.store.steps import add, job

HERE = machine_identity()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a host's main one."""
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


@pytest.fixture
def at_work(services: Services, process: subprocess.Popen[bytes]) -> uuid.UUID:
    """A job that a host of this machine has in hand, and whose lease is fresh."""
    host_id = uuid.uuid4()
    add(services)
    admit(services, job_timeout_seconds=60)
    [ticket_id] = open_queue(services.redis()).job_ids
    ticket = Ticket.fetch(ticket_id, connection=services.redis(), serializer=JSONSerializer)
    identity = process_identity(process.pid)
    assert identity is not None
    with services.database.system_transaction() as connection:
        renew_lease(connection, host_id, name="h", pid=process.pid, workers=1, machine=HERE, process=identity)
        claimed = claim_job(connection, ticket.args[0], ticket=ticket_id, worker="w", host_id=host_id)
    assert claimed is not None
    return claimed.job_id


def test_the_jobs_of_a_host_that_was_killed_on_this_machine_run_again_before_its_lease_ends(
    services: Services, process: subprocess.Popen[bytes], at_work: uuid.UUID
) -> None:
    maintenance = Maintenance(services)
    maintenance.tick()
    assert job(services, at_work)["state"] == "processing", "it lives"
    process.kill()
    while process_identity(process.pid):
        os.sched_yield()
    # Not yet waited for: a zombie is dead as well.
    maintenance.run_soon("reap_neighbours")
    maintenance.tick()
    row = job(services, at_work)
    assert (row["state"], row["attempt"]) == ("queued", 1)
    assert [reason["code"] for reason in row["attempts"]] == ["worker_lost"]
    with services.database.system_transaction() as connection:
        assert list_hosts(connection) == []


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(
    services: Services, process: subprocess.Popen[bytes], at_work: uuid.UUID
) -> None:
    with services.database.system_transaction() as connection:
        [host] = list_hosts(connection)
        renew_lease(
            connection,
            host["id"],
            name="h",
            pid=process.pid,
            workers=1,
            machine=HERE,
            process="an earlier one",
        )
    assert reap_dead_neighbours(services, HERE) == 1
    assert job(services, at_work)["state"] == "queued"


@pytest.mark.parametrize("machine", ["another", ""])
def test_hosts_of_other_machines_are_left_to_their_leases(
    services: Services, process: subprocess.Popen[bytes], at_work: uuid.UUID, machine: str
) -> None:
    process.kill()
    process.wait()
    assert reap_dead_neighbours(services, machine) == 0
    assert job(services, at_work)["state"] == "processing"
