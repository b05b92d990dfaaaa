"""A host that froze in the middle of a transaction: its locks block no one once its lease has expired."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
from sqlalchemy import text

from emberq.dispatch.admit import admit
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.recover import reap_expired_hosts
from emberq.errors import DatabaseUnavailable
from emberq.store.admin.hosts import connection_name, renew_lease
from emberq.store.admin.pauses import PauseScope, pause
from emberq.store.services import Services
from tests.harness.eventually import eventually
from tests.harness.processes import RunningProgram
from tests.integration.store.steps import add, claim, commit, job

LOCK = """
import sys, time
from sqlalchemy import text
from emberq.store.database import Database
from emberq.store.jobs.admission import lock_admission
database = Database(sys.argv[1], application_name=sys.argv[2])
with database.system_transaction() as connection:
    if sys.argv[3] == "rows":
        connection.execute(text("UPDATE jobs SET progress_done = 7"))
        connection.execute(text("UPDATE files SET name = name"))
    else:
        lock_admission(connection)
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def host(services: Services) -> uuid.UUID:
    host_id = uuid.uuid4()
    with services.database.system_transaction() as connection:
        renew_lease(connection, host_id, name="host", pid=1, workers=1)
    return host_id


@pytest.fixture
def job_id(services: Services, host: uuid.UUID) -> uuid.UUID:
    added = add(services)
    claim(services, added.job_id)
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET host_id = :host"), {"host": host})
    return added.job_id


@pytest.fixture
def frozen(
    services: Services, host: uuid.UUID, job_id: uuid.UUID, tmp_path: Path
) -> Iterator[RunningProgram]:
    """A process of the host, stopped while it has locked the rows of the job and its file."""
    with freeze(services, host, tmp_path, locked="rows") as process:
        yield process


@pytest.fixture
def frozen_in_admission(services: Services, host: uuid.UUID, tmp_path: Path) -> Iterator[RunningProgram]:
    """A process of the host, stopped while it has locked admission."""
    with freeze(services, host, tmp_path, locked="admission") as process:
        yield process


@contextmanager
def freeze(services: Services, host: uuid.UUID, tmp_path: Path, *, locked: str) -> Iterator[RunningProgram]:
    command = [sys.executable, "-c", LOCK, services.database.url, connection_name(host), locked]
    with RunningProgram(command, log=tmp_path / "log", has_input=True) as process:
        process.wait_for_print("locked")
        process.send(SIGSTOP)
        yield process


def thaw(process: RunningProgram) -> str:
    """Let the process go on to its end and return what it said."""
    process.send(SIGCONT)
    process.write("\n")
    process.wait()
    return process.printed.removeprefix("locked\n")


def let_lease_run_out(services: Services) -> None:
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE hosts SET lease_until = now() - interval '1 second'"))


def test_a_frozen_hosts_job_is_taken_over_and_its_file_can_be_committed(
    services: Services, job_id: uuid.UUID, frozen: RunningProgram
) -> None:
    let_lease_run_out(services)
    assert eventually(lambda: reap_expired_hosts(services, retry_delay_seconds=0)) == 1
    commit(services, claim(services, job_id), ["text"])
    row = job(services, job_id)
    assert (row["state"], row["attempt"], row["progress_done"]) == ("completed", 2, 0)


def test_the_frozen_process_cannot_go_on_where_it_stopped(
    services: Services, job_id: uuid.UUID, frozen: RunningProgram
) -> None:
    let_lease_run_out(services)
    assert eventually(lambda: reap_expired_hosts(services, retry_delay_seconds=0)) == 1
    assert "DatabaseUnavailable" in thaw(frozen)
    assert job(services, job_id)["progress_done"] == 0


def test_a_host_that_beats_is_left_alone(
    services: Services, job_id: uuid.UUID, frozen: RunningProgram
) -> None:
    # A host whose lease is over loses its job in the first or second of these.
    assert [reap_expired_hosts(services, retry_delay_seconds=0) for _ in range(5)] == [0] * 5
    assert thaw(frozen) == ""
    assert job(services, job_id)["progress_done"] == 7


def test_admission_goes_on_without_a_host_that_froze_in_it(
    services: Services, frozen_in_admission: RunningProgram
) -> None:
    added = add(services)
    maintenance = Maintenance(services, grace_seconds=0)
    # Each tick ends, though the frozen host has admission locked: its lease could not be judged otherwise.
    maintenance.tick()
    assert job(services, added.job_id)["state"] == "pending"
    let_lease_run_out(services)

    def is_queued() -> bool:
        maintenance.run_soon("reap_hosts")
        maintenance.run_soon("admit")
        maintenance.tick()
        return bool(job(services, added.job_id)["state"] == "queued")

    assert eventually(is_queued)
    assert "DatabaseUnavailable" in thaw(frozen_in_admission)


def test_without_the_lock_of_admission_no_job_is_admitted_and_no_outage_reported(
    services: Services, frozen_in_admission: RunningProgram
) -> None:
    add(services)
    assert admit(services, job_timeout_seconds=60) == 0


def test_a_pause_is_refused_while_admission_is_locked(
    services: Services, frozen_in_admission: RunningProgram
) -> None:
    with pytest.raises(DatabaseUnavailable), services.database.system_transaction() as connection:
        pause(connection, PauseScope.TENANT, "default", "default")
