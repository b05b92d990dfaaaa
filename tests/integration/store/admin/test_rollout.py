"""`applied by k of n workers`: what hosts say, less the workers that still run an older job."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import RowMapping, text

from emberq.config.snapshot import Unreadable
from emberq.store.admin.changes import change_settings
from emberq.store.admin.hosts import HostConfig, renew_lease
from emberq.store.admin.rollout import HostApplied, applied_by_hosts
from emberq.store.files.add import add_file
from emberq.store.files.blobs import StoredBlob
from emberq.store.files.collections import create_collection
from emberq.store.files.commit import commit_file
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import claim_job
from emberq.store.jobs.queries import get_job
from emberq.store.services import Services


def put(services: Services, key: str, value: Any) -> int:
    with services.database.system_transaction() as connection:
        return change_settings(connection, services.sealer, {key: value}, changed_by="test")


def say(services: Services, host_id: uuid.UUID, *versions: int, **config: Any) -> None:
    with services.database.system_transaction() as connection:
        renew_lease(
            connection,
            host_id,
            name="host",
            pid=1,
            workers=len(versions),
            config=HostConfig(max(versions), versions, **config),
        )


def ask(services: Services, version: int) -> list[HostApplied]:
    with services.database.system_transaction() as connection:
        return applied_by_hosts(connection, version)


def k_of_n(services: Services, version: int) -> tuple[int, int]:
    hosts = ask(services, version)
    return sum(host.applied for host in hosts), sum(host.workers for host in hosts)


def claim(services: Services, host_id: uuid.UUID, worker: str) -> Any:
    with services.database.system_transaction() as connection:
        collection: RowMapping = create_collection(connection, "default", worker, embedding_model="m")
        added = add_file(
            connection,
            collection=collection,
            name="a.txt",
            blob=StoredBlob(worker.ljust(64, "0"), 1),
            max_attempts=3,
            max_pending=100,
        )
    with services.database.system_transaction() as connection:
        admit_jobs(connection, limit=10)
        ticket = get_job(connection, "default", added.job_id)["ticket"]
        attempt = claim_job(connection, added.job_id, ticket=ticket, worker=worker, host_id=host_id)
    assert attempt is not None
    return attempt


def test_slots_count_by_the_version_each_applies(services: Services) -> None:
    put(services, "rag_top_k", 7)
    one, other = uuid.uuid4(), uuid.uuid4()
    say(services, one, 1, 1, 0)
    say(services, other, 0)
    assert k_of_n(services, 1) == (2, 4)
    say(services, other, 1)
    say(services, one, 1, 1, 1)
    assert k_of_n(services, 1) == (4, 4)


def test_a_host_whose_lease_is_over_does_not_count(services: Services) -> None:
    say(services, uuid.uuid4(), 1, 1)
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE hosts SET lease_until = now() - interval '1 second'"))
    assert k_of_n(services, 1) == (0, 0)


def test_a_worker_in_an_older_job_does_not_apply_the_new_version_until_it_is_over(services: Services) -> None:
    host = uuid.uuid4()
    say(services, host, 0, 0)
    attempt = claim(services, host, "w1")
    assert attempt.config_version == 0
    version = put(services, "rag_chunk_size", 300)
    say(services, host, version, version)
    assert k_of_n(services, version) == (1, 2)
    with services.database.system_transaction() as connection:
        commit_file(
            connection, attempt, text="", media_type="text/plain", page_count=1, chunks=[], timings={}
        )
    assert k_of_n(services, version) == (2, 2)


def test_a_change_that_is_not_for_jobs_need_not_wait_for_them(services: Services) -> None:
    host = uuid.uuid4()
    say(services, host, 0)
    claim(services, host, "w1")
    version = put(services, "rag_top_k", 7)
    say(services, host, version)
    assert k_of_n(services, version) == (1, 1)


def test_a_job_claimed_after_the_change_counts_with_it(services: Services) -> None:
    host = uuid.uuid4()
    version = put(services, "rag_chunk_size", 300)
    say(services, host, version)
    assert claim(services, host, "w1").config_version == version
    assert k_of_n(services, version) == (1, 1)


def test_what_a_host_cannot_read_is_told_with_it(services: Services) -> None:
    broken = Unreadable("rag_embedding_api_key", "", "A secret setting was sealed with another key")
    say(services, uuid.uuid4(), 0, 0, is_pushed=True, unreadable=[broken])
    [host] = ask(services, 1)
    assert (host.applied, host.workers, host.is_pushed, host.unreadable) == (0, 2, True, (broken,))
    say(services, host.host_id, 1, 1)
    [host] = ask(services, 1)
    assert (host.applied, host.is_pushed, host.unreadable) == (2, False, ())
