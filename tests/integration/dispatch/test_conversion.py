"""Waiting for the ends of jobs: one query for all, errors are waited out, every request is woken."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event, text

from emberq.dispatch.conversion import JobEnds
from emberq.errors import DatabaseUnavailable, ServiceStopping
from emberq.store.services import Services
from tests.integration.store.files.test_extractions import read, send


def job_ends(services: Callable[[], Services]) -> JobEnds:
    return JobEnds(services, retry_seconds=0.02)


def test_all_who_wait_are_woken_by_the_end_of_their_own_job(services: Services) -> None:
    first, second = send(services, b"One."), send(services, b"Two.")

    async def story() -> None:
        ends = job_ends(lambda: services)
        waiting = [asyncio.create_task(ends.wait(job_id)) for job_id in [first] * 50 + [second]]
        await asyncio.sleep(0.3)
        assert not any(one.done() for one in waiting)
        await asyncio.to_thread(read, services, first)
        await asyncio.wait_for(asyncio.gather(*waiting[:50]), 20)
        assert not waiting[50].done()
        await asyncio.to_thread(read, services, second)
        await asyncio.wait_for(waiting[50], 20)
        # No request waits, so nothing is queried.
        assert ends._poller is not None
        await asyncio.wait_for(ends._poller, 20)
        await asyncio.wait_for(ends.wait(uuid.uuid4()), 20)

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

    asyncio.run(asyncio.wait_for(job_ends(often_away).wait(job_id), 20))
    assert next(refusals, None) is None


def test_whoever_stops_waiting_is_forgotten_and_the_others_are_not(services: Services) -> None:
    job_id = send(services)

    async def story() -> None:
        ends = job_ends(lambda: services)
        left, stays = (asyncio.create_task(ends.wait(job_id)) for _ in range(2))
        await asyncio.sleep(0.1)
        left.cancel()
        await asyncio.to_thread(read, services, job_id)
        await asyncio.wait_for(stays, 20)
        assert left.cancelled()
        assert ends._waiting == {}

    asyncio.run(story())


def test_a_process_that_stops_lets_everybody_go(services: Services) -> None:
    job_id = send(services)

    async def story() -> None:
        ends = job_ends(lambda: services)
        waiting = [asyncio.create_task(ends.wait(job_id)) for _ in range(3)]
        with broken(services):
            waiting.append(asyncio.create_task(ends.run_in_thread(lambda: look(services))))
            await asyncio.sleep(0.3)
            ends.stop()
            ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
        assert {type(one) for one in ended} == {ServiceStopping}
        with pytest.raises(ServiceStopping):
            await ends.wait(job_id)

    asyncio.run(story())


def test_what_postgresql_does_not_answer_is_asked_again(services: Services) -> None:
    async def story() -> None:
        ends = job_ends(lambda: services)
        with broken(services):
            asked = asyncio.create_task(ends.run_in_thread(lambda: look(services)))
            await asyncio.sleep(0.3)
            assert not asked.done()
        await asyncio.wait_for(asked, 20)

    asyncio.run(story())


def look(services: Services) -> None:
    with services.database.transaction() as connection:
        connection.execute(text("SELECT 1"))


@contextmanager
def broken(services: Services) -> Iterator[None]:
    """Let no connection be made."""

    def refuse(*_arguments: object) -> None:
        raise psycopg.OperationalError("connection refused by the test")

    services.database.engine.dispose()
    event.listen(services.database.engine, "do_connect", refuse)
    try:
        yield
    finally:
        event.remove(services.database.engine, "do_connect", refuse)
