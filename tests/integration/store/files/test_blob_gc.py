"""Unreferenced bytes are deleted after a grace period, but never those of an upload that comes between."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from emberq.dispatch.blob_gc import BlobGarbageCollector
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.purge import purge_ended_jobs
from emberq.errors import DatabaseUnavailable
from emberq.store.files import blob_gc
from emberq.store.files.add import AddedFile, add_file
from emberq.store.files.blob_gc import delete_unreferenced_blobs, lock_blob_shared, restore_discarded_blobs
from emberq.store.files.blobs import BlobStore, BlobWriter
from emberq.store.services import Services
from tests.integration.store.steps import claim, collection_of, commit, delete

DAY = 86400.0


def put(services: Services, content: bytes) -> str:
    """Store bytes that no row refers to."""
    with services.blobs.writer() as writer:
        writer.write(content)
        return writer.commit().sha256


def age(services: Services, sha256: str, *, days: float = 2) -> None:
    when = time.time() - days * DAY
    os.utime(services.blobs.path_of(sha256), (when, when))


def is_there(services: Services, sha256: str) -> bool:
    return services.blobs.path_of(sha256).is_file()


@contextmanager
def upload(services: Services, content: bytes, *, external_id: str | None = None) -> Iterator[AddedFile]:
    """Upload as the API does; the transaction commits at the block's end."""
    collection = collection_of(services)
    with services.blobs.writer() as writer:
        writer.write(content)
        blob = writer.seal()
        with services.database.system_transaction() as connection:
            lock_blob_shared(connection, blob.sha256)
            writer.publish()
            yield add_file(
                connection,
                collection=collection,
                name="a.txt",
                blob=blob,
                max_attempts=3,
                max_pending=100,
                external_id=external_id,
            )


def collect(services: Services, sha256: str) -> int:
    return delete_unreferenced_blobs(services.database, services.blobs, [sha256], older_than_seconds=DAY)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Have something happen right after the collector has looked for rows the nth time."""

    def arrange(nth: int, what: Callable[[], None]) -> None:
        looked = 0
        original = blob_gc._referenced

        def referred(connection: Connection, hashes: Sequence[str], **options: Any) -> set[str]:
            nonlocal looked
            found = original(connection, hashes, **options)
            looked += 1
            if looked == nth:
                what()
            return found

        monkeypatch.setattr(blob_gc, "_referenced", referred)

    return arrange


def test_orphans_go_after_the_grace_period_and_needed_bytes_stay(services: Services) -> None:
    orphan, young = put(services, b"orphan"), put(services, b"young")
    with upload(services, b"needed"):
        pass
    needed = put(services, b"needed")
    for sha256 in (orphan, needed):
        age(services, sha256)
    assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 1
    assert [is_there(services, one) for one in (orphan, young, needed)] == [False, True, True]
    assert list(services.blobs.discarded.iterdir()) == []


def test_maintenance_garbage_collects(services: Services) -> None:
    orphan = put(services, b"orphan")
    age(services, orphan)
    Maintenance(services).tick()
    assert not is_there(services, orphan)


def test_an_upload_whose_transaction_failed_leaves_bytes_that_are_collected(services: Services) -> None:
    with pytest.raises(ZeroDivisionError), upload(services, b"failed"):
        raise ZeroDivisionError
    [sha256] = [path.parent.name + path.name for path in services.blobs.root.glob("??/*")]
    age(services, sha256)
    assert collect(services, sha256) == 1
    assert not is_there(services, sha256)


def test_a_deleted_files_bytes_go_after_the_grace_period_unless_another_file_has_the_same(
    services: Services,
) -> None:
    with upload(services, b"shared") as one, upload(services, b"shared"):
        pass
    with upload(services, b"alone") as alone:
        pass
    shared_bytes, alone_bytes = put(services, b"shared"), put(services, b"alone")
    for sha256 in (shared_bytes, alone_bytes):
        age(services, sha256)
    delete(services, one.file_id)
    delete(services, alone.file_id)
    assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 0
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE files SET deleted_at = deleted_at - interval '2 days'"))
    assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 1
    assert (is_there(services, shared_bytes), is_there(services, alone_bytes)) == (True, False)


def test_a_purged_versions_bytes_go_and_the_newest_ones_stay(services: Services) -> None:
    for content in (b"old", b"new"):
        with upload(services, content, external_id="x") as added:
            pass
        commit(services, claim(services, added.job_id), [content.decode()])
    old, new = put(services, b"old"), put(services, b"new")
    for sha256 in (old, new):
        age(services, sha256)
    assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 0
    with services.database.system_transaction() as connection:
        connection.execute(text("UPDATE jobs SET ended_at = ended_at - interval '8 days'"))
    assert purge_ended_jobs(services, retention_seconds=7 * DAY) == 1
    assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 1
    assert (is_there(services, old), is_there(services, new)) == (False, True)


def test_an_upload_that_is_not_committed_yet_keeps_its_bytes(services: Services) -> None:
    old = put(services, b"again")
    with upload(services, b"again"):
        # Even if the file's time said otherwise, as on a server whose clock is wrong.
        age(services, old)
        assert collect(services, old) == 0
    assert collect(services, old) == 0
    assert is_there(services, old)


def test_an_upload_that_begins_while_the_collector_looks_has_its_bytes_afterwards(
    services: Services, interrupt: Callable[[int, Callable[[], None]], None]
) -> None:
    sha256 = put(services, b"again")
    age(services, sha256)
    done = threading.Event()

    def upload_meanwhile() -> None:
        with upload(services, b"again"):
            pass
        done.set()

    thread = threading.Thread(target=upload_meanwhile)

    def begin() -> None:
        thread.start()
        # It waits for the collector's lock: it cannot put its bytes where they would be taken away.
        assert not done.wait(0.5)

    interrupt(2, begin)
    assert collect(services, sha256) == 1
    thread.join(20)
    assert done.is_set()
    assert is_there(services, sha256)
    assert collect(services, sha256) == 0


@pytest.mark.parametrize("nth", [2, 3])
def test_a_collector_that_lost_its_lock_while_it_stood_still_takes_nothing(
    services: Services, interrupt: Callable[[int, Callable[[], None]], None], nth: int
) -> None:
    sha256 = put(services, b"again")
    age(services, sha256)

    def lose_the_lock_to_an_upload() -> None:
        with services.database.system_transaction() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            )
        with upload(services, b"again"):
            pass
        # As if it had been put there long ago: the lock has to do it, not the clock.
        if services.blobs.path_of(sha256).exists():
            age(services, sha256)

    interrupt(nth, lose_the_lock_to_an_upload)
    with pytest.raises(DatabaseUnavailable):
        collect(services, sha256)
    assert services.blobs.existing(sha256).read_bytes() == b"again"
    assert list(services.blobs.discarded.iterdir()) == []


@pytest.mark.parametrize("is_needed", [True, False])
def test_what_a_dead_collector_had_taken_aside_is_put_back_if_it_is_needed(
    services: Services, *, is_needed: bool
) -> None:
    sha256 = put(services, b"again")
    if is_needed:
        with upload(services, b"again"):
            pass
    services.blobs.path_of(sha256).replace(services.blobs.discarded / sha256)
    assert restore_discarded_blobs(services.database, services.blobs, older_than_seconds=DAY) == int(
        is_needed
    )
    assert is_there(services, sha256) is is_needed
    assert list(services.blobs.discarded.iterdir()) == []


DIES_WHILE_WRITING = """
import os, pathlib, signal, sys
from emberq.store.files.blobs import BlobStore
writer = BlobStore(pathlib.Path(sys.argv[1])).writer()
writer.write(b"half of it")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_draft_of_a_killed_process_is_collected_and_that_of_a_living_one_stays(
    services: Services,
) -> None:
    store: BlobStore = services.blobs
    subprocess.run([sys.executable, "-c", DIES_WHILE_WRITING, str(store.root)], check=False)
    [left] = store.drafts.iterdir()
    with store.writer() as living:
        living.write(b"slow")
        assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 0
        for draft in store.drafts.iterdir():
            _age_path(draft)
        assert BlobGarbageCollector(services, grace_seconds=DAY).run() == 1
        assert not left.exists()
        assert _finish(living)
    assert not list(store.drafts.iterdir())


def test_a_large_store_is_walked_in_turns(services: Services) -> None:
    hashes = [put(services, f"orphan {n}".encode()) for n in range(30)]
    for sha256 in hashes:
        age(services, sha256)
    collector = BlobGarbageCollector(services, grace_seconds=DAY, run_seconds=0.01)
    turns = [collector.run() for _ in range(40)]
    assert sum(turns) == 30
    assert max(turns) < 30


def _age_path(path: Path) -> None:
    os.utime(path, (time.time() - 2 * DAY,) * 2)


def _finish(writer: BlobWriter) -> bool:
    writer.write(b" but whole")
    return writer.commit().size == len(b"slow but whole")
