"""Two transactions at once: the second begins when the first has done its work but not committed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection, text

from emberq.errors import EmberqError
from emberq.store.files.add import add_file
from emberq.store.files.collections import delete_collection
from emberq.store.files.commit import commit_file
from emberq.store.files.files import delete_file
from emberq.store.jobs.claim import Attempt
from emberq.store.jobs.finish import fail_attempt
from emberq.store.jobs.queries import cancel_job
from emberq.store.services import Services
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.integration.store.steps import (
    TENANT,
    blob,
    collection_of,
    values_of,
)

__all__ = [
    "Step",
    "cancelling",
    "committing",
    "deleting",
    "dropping",
    "failing",
    "overlap",
    "second_waits",
    "uploading",
    "waits_for_lock",
]


Step = Callable[[Connection], Any]


def overlap(services: Services, first: Step, second: Step) -> Any:
    """Run `second` while `first` has done its work but not committed, and return what it returned.

    `first` commits as soon as `second` waits for a lock of it, or is over without one.
    """
    began = threading.Event()

    def run() -> Any:
        with services.database.system_transaction() as connection:
            connection.execute(text("SET LOCAL application_name = 'second'"))
            began.set()
            return second(connection)

    with ThreadPoolExecutor(1) as pool:
        with services.database.system_transaction() as connection:
            first(connection)
            outcome: Future[Any] = pool.submit(run)
            assert began.wait(LIMIT_SECONDS)
            eventually(lambda: outcome.done() or second_waits(services))
        return outcome.result(LIMIT_SECONDS)


def waits_for_lock(services: Services) -> bool:
    """Return whether a session of this database waits for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with services.database.system_transaction() as connection:
        return bool(connection.execute(text(waiting)).scalar_one())


def second_waits(services: Services) -> bool:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'second' AND wait_event_type = 'Lock'"
    )
    with services.database.system_transaction() as connection:
        return bool(connection.execute(text(waiting)).scalar_one())


def uploading(services: Services, content: str, **options: Any) -> Step:
    collection = collection_of(services)
    return lambda connection: add_file(
        connection,
        collection=collection,
        name="a.txt",
        blob=blob(content),
        max_attempts=3,
        max_pending=100,
        **options,
    )


def committing(attempt: Attempt, *texts: str) -> Step:
    return lambda connection: commit_file(
        connection,
        attempt,
        text=" ".join(texts),
        media_type="text/plain",
        page_count=1,
        chunks=values_of(list(texts)),
        timings={},
    )


def failing(attempt: Attempt, error: EmberqError) -> Step:
    return lambda connection: fail_attempt(
        connection, attempt.job_id, error, fence=attempt.fence, retry_delay_seconds=0
    )


def cancelling(job_id: uuid.UUID) -> Step:
    return lambda connection: cancel_job(connection, TENANT, job_id)


def deleting(file_id: uuid.UUID) -> Step:
    return lambda connection: delete_file(connection, TENANT, file_id)


def dropping(connection: Connection) -> None:
    delete_collection(connection, TENANT, "docs")
