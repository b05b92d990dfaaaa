"""Waiting for the ends of jobs: one query for all, errors are waited out, every request is woken."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event, text

from emberq.dispatch.conversion import JobEnds
from emberq.errors import DatabaseUnavailable, ServiceStopping
from emberq.store.services import Services
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.integration.store.files.test_extractions import read, send


def job_ends(services: Callable[[], Services]) -> JobEnds:
    return JobEnds(services, retry_seconds=0.02)


def test_all_who_wait_are_woken_by_the_end_of_their_own_job(services: Services) -> None:
    first, second = send(services, b"One."), send(services, b"Two.")

    async def story() -> None:
        queries = itertools.count()
        ends = job_ends(lambda: (next(queries), services)[1])
        waiting = [asyncio.create_task(ends.wait(job_id)) for job_id in [first] * 50 + [second]]
        await asyncio.to_thread(eventually, lambda: next(queries) > 5)
        assert not any(one.done() for one in waiting)
        await asyncio.to_thread(read, services, first)
        await asyncio.wait_for(asyncio.gather(*waiting[:50]), LIMIT_SECONDS)
        assert not waiting[50].done()
        await asyncio.to_thread(read, services, second)
        await asyncio.wait_for(waiting[50], LIMIT_SECONDS)
        # No request waits, so nothing is queried.
        assert ends._poller is not None
        await asyncio.wait_for(ends._poller, LIMIT_SECONDS)
        await asyncio.wait_for(ends.wait(uuid.uuid4()), LIMIT_SECONDS)

    asyncio.run(story())


def test_errors_of_the_question_are_waited_out(services: Services) -> None:
    job_id = send(services)
    read(services, job_id)
    refusals: Iterator[Exception] = iter(
        [DatabaseUnavailable(), RuntimeError("a bug"), DatabaseUnavailable()]
    )

    def often_away() -> Services:
        for refusal in refusals:
            raise refusal
        return services

    asyncio.run(asyncio.wait_for(job_ends(often_away).wait(job_id), LIMIT_SECONDS))
    assert next(refusals, None) is None


def test_a_request_that_stops_waiting_is_forgotten_and_others_are_not(services: Services) -> None:
    job_id = send(services)

    async def story() -> None:
        ends = job_ends(lambda: services)
        left, stays = (asyncio.create_task(ends.wait(job_id)) for _ in range(2))
        await asyncio.to_thread(eventually, lambda: ends._waiting)
        left.cancel()
        await asyncio.to_thread(read, services, job_id)
        await asyncio.wait_for(stays, LIMIT_SECONDS)
        assert left.cancelled()
        assert ends._waiting == {}

    asyncio.run(story())


def test_a_process_that_stops_ends_all_waiting_requests(services: Services) -> None:
    job_id = send(services)

    async def story() -> None:
        ends = job_ends(lambda: services)
        waiting = [asyncio.create_task(ends.wait(job_id)) for _ in range(3)]
        with broken(services) as refused:
            waiting.append(asyncio.create_task(ends.run_in_thread(lambda: look(services))))
            await asyncio.to_thread(eventually, lambda: len(refused) > 1)
            ends.stop()
            ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), LIMIT_SECONDS)
        assert {type(one) for one in ended} == {ServiceStopping}
        with pytest.raises(ServiceStopping):
            await ends.wait(job_id)

    asyncio.run(story())


def test_what_postgresql_does_not_answer_is_asked_again(services: Services) -> None:
    async def story() -> None:
        ends = job_ends(lambda: services)
        with broken(services) as refused:
            asked = asyncio.create_task(ends.run_in_thread(lambda: look(services)))
            await asyncio.to_thread(eventually, lambda: len(refused) > 1)
            assert not asked.done()
        await asyncio.wait_for(asked, LIMIT_SECONDS)

    asyncio.run(story())


def look(services: Services) -> None:
    with services.database.system_transaction() as connection:
        connection.execute(text("SELECT 1"))


@contextmanager
def broken(services: Services) -> Iterator[list[int]]:
    """Let no connection be made; yields a list that grows with each that was refused."""
    refused: list[int] = []

    def refuse(*_arguments: object) -> None:
        refused.append(1)
        raise psycopg.OperationalError("connection refused by the test")

    services.database.engine.dispose()
    event.listen(services.database.engine, "do_connect", refuse)
    try:
        yield refused
    finally:
        event.remove(services.database.engine, "do_connect", refuse)
