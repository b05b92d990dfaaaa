"""What becomes of jobs whose attempt, worker or host met a PostgreSQL that was away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from rq.timeouts import JobTimeoutException
from sqlalchemy import make_url, text

from emberq.config.environment import Environment
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.recover import DeadWorkers
from emberq.errors import DatabaseUnavailable, EmberqError, StorageUnavailable, WorkerLost
from emberq.pipeline.outages import is_outage, retry_during_outage, retry_forever
from emberq.retry.backoff import Backoff
from emberq.store.admin.hosts import renew_lease
from emberq.store.database import Database
from emberq.store.jobs.claim import Attempt
from emberq.store.jobs.finish import fail_attempt
from emberq.store.services import Services, configure_services
from emberq.testing.proxy import TcpProxy
from emberq.worker.job.progress import report_all_progress_to
from tests.integration.store.steps import add, claim, commit, job

HOST = uuid.uuid4()


@pytest.fixture
def wire(services: Services) -> Iterator[TcpProxy]:
    directory = parse_qs(urlsplit(services.database.url).query)["host"][0]
    with TcpProxy(f"{directory}/.s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture
def far(services: Services, wire: TcpProxy, tmp_path: Path) -> Iterator[Services]:
    """The same services, with the database at the end of a wire."""
    url = make_url(services.database.url).set(host="127.0.0.1", port=wire.port)
    made = configure_services(
        Environment(data_dir=tmp_path),
        database_url=url.difference_update_query(["host"]).render_as_string(hide_password=False),
        redis_url=services.redis_url,
    )
    yield made
    made.database.close()


def claimed_by_host(services: Services, worker: str = "w") -> Attempt:
    """Claim a job for a host whose lease ends now."""
    attempt = claim(services, add(services).job_id, worker=worker)
    with services.database.system_transaction() as connection:
        renew_lease(connection, HOST, name="h", pid=1, workers=1)
        connection.execute(text("UPDATE hosts SET lease_until = now() - interval '1 second'"))
        connection.execute(text("UPDATE jobs SET host_id = :host"), {"host": HOST})
    return attempt


def cause(sqlstate_error: Exception) -> DatabaseUnavailable:
    error = DatabaseUnavailable()
    error.__cause__ = sqlstate_error
    return error


def end(services: Services, attempt: Attempt, error: EmberqError, *, delay: float = 60) -> dict[str, Any]:
    with services.database.system_transaction() as connection:
        fail_attempt(
            connection,
            attempt.job_id,
            error,
            fence=attempt.fence,
            retry_delay_seconds=delay,
            is_outage=is_outage(error),
        )
    return job(services, attempt.job_id)


def ready_again(services: Services) -> None:
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET not_before = now() WHERE not_before IS NOT NULL"))


@pytest.mark.parametrize(
    "error",
    [
        cause(psycopg.errors.DiskFull("full")),
        cause(psycopg.errors.ReadOnlySqlTransaction("replica")),
        cause(psycopg.errors.TooManyConnections("many")),
        cause(psycopg.errors.CannotConnectNow("starting up")),
        StorageUnavailable(),
    ],
    ids=lambda error: type(error.__cause__ or error).__name__,
)
def test_an_outage_costs_a_file_no_attempt_however_often_it_comes(
    services: Services, error: EmberqError
) -> None:
    job_id = add(services, max_attempts=2).job_id
    for times in range(1, 6):
        ended = end(services, claim(services, job_id), error)
        assert (ended["state"], ended["attempt"], ended["waiting_reason"]) == ("pending", 0, "backoff")
        assert len(ended["attempts"]) == times
        ready_again(services)
    attempt = claim(services, job_id)
    assert attempt.attempt == 1
    commit(services, attempt, ["one"])
    assert job(services, job_id)["state"] == "completed"


def test_a_file_held_back_waits_longer_each_time(services: Services) -> None:
    job_id = add(services).job_id
    pauses = []
    for _ in range(4):
        end(services, claim(services, job_id), StorageUnavailable(), delay=100)
        with services.database.system_transaction() as connection:
            pauses.append(
                float(
                    connection.execute(
                        text("SELECT extract(epoch FROM not_before - now()) FROM jobs")
                    ).scalar_one()
                )
            )
        ready_again(services)
    # 10, 20, 40, 80 s, a fifth more or less.
    assert [pause > 8 * 2**n - 1 for n, pause in enumerate(pauses)] == [True] * 4
    assert pauses[0] < 13


def test_a_file_that_may_have_brought_the_server_down_is_counted(services: Services) -> None:
    job_id = add(services, max_attempts=2).job_id
    states = []
    for _ in range(2):
        ended = end(services, claim(services, job_id), cause(psycopg.errors.CrashShutdown("crash")))
        states.append((ended["state"], ended["attempt"]))
        ready_again(services)
    assert states == [("pending", 1), ("failed", 2)]


def test_what_an_attempt_came_to_is_written_down_although_its_time_is_over(
    services: Services, far: Services, wire: TcpProxy
) -> None:
    attempt = claim(services, add(services).job_id)
    tries: list[int] = []
    fed: list[int] = []

    def write() -> None:
        tries.append(len(tries))
        if len(tries) == 3:
            # What the alarm of RQ's time-out does, wherever it strikes.
            raise JobTimeoutException
        if len(tries) == 6:
            wire.heal()
        with far.database.system_transaction() as connection:
            fail_attempt(
                connection, attempt.job_id, WorkerLost(), fence=attempt.fence, retry_delay_seconds=60
            )

    wire.cut()
    report_all_progress_to(lambda *_: fed.append(1))
    try:
        retry_forever(write, backoff=Backoff(first_seconds=0.01, longest_seconds=0.05))()
    finally:
        report_all_progress_to(lambda *_: None)
    assert len(tries) == 6
    # The watchdog was told each time: whoever waits has not stalled.
    assert len(fed) == 6
    assert job(services, attempt.job_id)["state"] == "pending"


def test_retrying_has_an_end_and_a_wrong_password_is_not_retried() -> None:
    tries = []

    def attempt_it(error: Exception) -> None:
        tries.append(error)
        raise cause(error)

    # The pauses do not grow, so that the end comes soon.
    same = Backoff(first_seconds=0.01, longest_seconds=0.01)
    with pytest.raises(DatabaseUnavailable):
        retry_during_outage(total_seconds=0.2, backoff=same)(attempt_it)(psycopg.errors.DiskFull("full"))
    assert len(tries) > 3
    tries.clear()
    with pytest.raises(DatabaseUnavailable):
        retry_forever(attempt_it)(psycopg.errors.InvalidPassword("no"))
    assert len(tries) == 1


def test_no_lease_is_judged_right_after_an_outage(services: Services, far: Services, wire: TcpProxy) -> None:
    attempt = claimed_by_host(services)
    maintenance = Maintenance(far, grace_seconds=3.0)
    wire.cut()
    maintenance.tick()
    wire.heal()
    for duty in ("reap_hosts", "admit"):
        maintenance.run_soon(duty)
    maintenance.tick()
    assert job(services, attempt.job_id)["state"] == "processing"
    # The host lives, and says so as soon as it can.
    with services.database.system_transaction() as connection:
        renew_lease(connection, HOST, name="h", pid=1, workers=1)
    # The grace period after the outage passes.
    time.sleep(3)
    maintenance.run_soon("reap_hosts")
    maintenance.tick()
    assert job(services, attempt.job_id)["state"] == "processing"


def test_a_host_that_does_not_renew_its_lease_after_an_outage_loses_its_jobs(
    services: Services, far: Services, wire: TcpProxy
) -> None:
    attempt = claimed_by_host(services)
    maintenance = Maintenance(far, grace_seconds=1.0)
    wire.cut()
    maintenance.tick()
    wire.heal()
    # The grace period after the outage passes.
    time.sleep(1)
    maintenance.run_soon("reap_hosts")
    maintenance.tick()
    # Reaped and, by the next duty of the same tick, admitted.
    assert job(services, attempt.job_id)["state"] == "queued"


def test_a_process_that_stood_still_judges_no_lease_at_once(services: Services) -> None:
    maintenance = Maintenance(services, standstill_seconds=0.5)
    maintenance.tick()
    attempt = claimed_by_host(services)
    # As if the process had been stopped for longer than it may stand still.
    time.sleep(0.6)
    maintenance.run_soon("reap_hosts")
    maintenance.tick()
    assert job(services, attempt.job_id)["state"] == "processing"


def test_a_new_process_judges_leases_at_once(services: Services) -> None:
    attempt = claimed_by_host(services)
    Maintenance(services).tick()
    assert job(services, attempt.job_id)["state"] != "processing"


def test_a_dead_workers_jobs_are_taken_over_when_postgresql_is_back(
    services: Services, far: Services, wire: TcpProxy
) -> None:
    attempt = claimed_by_host(services)
    dead = DeadWorkers(far, HOST)
    dead.reap()
    wire.cut()
    dead.add("w")
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            dead.reap()
    wire.heal()
    assert job(services, attempt.job_id)["state"] == "processing"
    dead.reap()
    assert job(services, attempt.job_id)["state"] == "queued"
    dead.reap()


def test_a_dead_workers_job_that_is_locked_is_taken_over_later(services: Services) -> None:
    attempt = claimed_by_host(services)
    dead = DeadWorkers(services, HOST)
    dead.add("w")
    other = Database(services.database.url)
    # The server may be about the dead horse's last statement for a while.
    with other.system_transaction() as connection:
        connection.execute(text("SELECT 1 FROM jobs FOR UPDATE"))
        dead.reap()
    other.close()
    assert job(services, attempt.job_id)["state"] == "processing"
    dead.reap()
    assert job(services, attempt.job_id)["state"] == "queued"


def test_an_error_in_the_middle_of_copy_is_an_outage_too(services: Services) -> None:
    attempt = claim(services, add(services).job_id)
    with services.database.system_transaction() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER t BEFORE INSERT ON chunks FOR EACH ROW EXECUTE FUNCTION full_disk()")
        )
    with pytest.raises(DatabaseUnavailable, match="full") as caught:
        commit(services, attempt, ["one"])
    assert is_outage(caught.value)
