"""Event streams: one poll for all, bounded per key, ended with the job or with the key."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pytest

from emberq.api import auth, job_feed
from emberq.config.current import get_config_cache
from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key, revoke_key
from emberq.store.admin.changes import change_settings
from emberq.store.jobs import queries as queries_of_jobs
from emberq.store.services import Services
from tests.harness.eventually import eventually, scaled
from tests.harness.served_api import ServedApi, served_api


@pytest.fixture
def api(services: Services) -> Iterator[ServedApi]:
    with served_api() as running:
        yield running


def new_key(services: Services, *, tenant: str = DEFAULT_TENANT) -> str:
    with services.database.system_transaction() as connection:
        return create_key(connection, name="test", tenant=tenant, scopes=["read", "write"])


@pytest.fixture
def key(services: Services) -> str:
    return new_key(services)


class Reader(threading.Thread):
    """Reads one stream to its end."""

    def __init__(self, api: ServedApi, key: str, url: str, last: int | None = None) -> None:
        super().__init__()
        self._api, self._key, self._url = api, key, url
        self._headers = {} if last is None else {"Last-Event-ID": str(last)}
        self.status = 0
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.start()
        eventually(lambda: self.status)

    def run(self) -> None:
        with (
            self._api.http(self._key) as client,
            client.stream("GET", f"/api/v1{self._url}", headers=self._headers) as answer,
        ):
            self.status = answer.status_code
            event_id = 0
            for line in answer.iter_lines():
                if line.startswith("id:"):
                    event_id = int(line[3:])
                elif line.startswith("data:"):
                    self.events.append((event_id, json.loads(line[5:])))

    def told(self, *states: str) -> set[str]:
        """Return the jobs it told of, or those that it said to be in a state."""
        return {job["id"] for _, job in self.events if not states or job["state"] in states}

    def ends(self) -> list[str]:
        """Return the states it told of, once the stream has ended."""
        eventually(lambda: not self.is_alive())
        return [job["state"] for _, job in self.events]


def upload(client: httpx.Client, name: str) -> str:
    client.post("/api/v1/collections", json={"name": "docs"})
    form = {"file": (name, name.encode())}
    return str(client.post("/api/v1/collections/docs/files", files=form).json()["job"]["id"])


def cancel(client: httpx.Client, job: str) -> None:
    assert client.post(f"/api/v1/jobs/{job}/cancel").status_code == 202


def test_each_stream_gets_each_change_once_and_a_jobs_stream_ends_with_it(api: ServedApi, key: str) -> None:
    with api.http(key) as client:
        jobs = [upload(client, f"{number}.txt") for number in range(3)]
        of_jobs = [Reader(api, key, f"/jobs/{job}/events") for job in jobs * 2]
        of_all = [Reader(api, key, "/events") for _ in range(3)]
        for reader in of_all:
            eventually(reader.told, set(jobs).__eq__)
        for job in jobs:
            cancel(client, job)
        for reader, job in zip(of_jobs, jobs * 2, strict=True):
            assert reader.ends()[-1] == "cancelled"
            assert {one["id"] for _, one in reader.events} == {job}
        late = Reader(api, key, "/events")
        for reader in [*of_all, late]:
            eventually(partial(reader.told, "cancelled"), set(jobs).__eq__)
            numbers = [number for number, _ in reader.events]
            assert len(set(numbers)) == len(numbers)
        # Nothing is left to tell of a job that has ended; a client that comes again learns that.
        last, _ = of_jobs[0].events[-1]
        assert Reader(api, key, f"/jobs/{jobs[0]}/events", last).status == 204
        again = Reader(api, key, f"/jobs/{jobs[0]}/events", last - 1)
        assert again.ends() == ["cancelled"]
        resumed = Reader(api, key, "/events", of_all[0].events[0][0])
        eventually(lambda: {job["state"] for _, job in resumed.events} == {"cancelled"})
    # The process stops: all streams end.
    api.server.should_exit = True
    for reader in [*of_all, late, resumed]:
        reader.ends()


def test_a_stream_ends_soon_after_its_key_and_others_go_on(
    services: Services, api: ServedApi, key: str
) -> None:
    other = new_key(services)
    ended, going_on = Reader(api, other, "/events"), Reader(api, key, "/events")
    with services.database.tenant_transaction(DEFAULT_TENANT) as connection:
        assert revoke_key(connection, DEFAULT_TENANT, other[:8])
    revoked_at = time.monotonic()
    ended.ends()
    assert time.monotonic() - revoked_at < scaled(10)
    assert auth._TRUST_SECONDS + job_feed._POLL_SECONDS < 1
    with api.http(key) as client:
        upload(client, "later.txt")
    eventually(lambda: going_on.events)
    assert Reader(api, other, "/events").status == 401
    api.server.should_exit = True
    going_on.ends()


def test_the_streams_of_a_key_are_bounded(services: Services, api: ServedApi, key: str) -> None:
    with services.database.system_transaction() as connection:
        values = {"key_max_streams": 3}
        version = change_settings(connection, services.sealer, values, tenant="", changed_by="test")
    get_config_cache().newest.announce(version)
    get_config_cache().get()
    readers = [Reader(api, key, "/events") for _ in range(3)]
    with api.http(key) as client:
        refused = client.get("/api/v1/events")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"]
    others = [
        Reader(api, new_key(services), "/events"),
        Reader(api, new_key(services, tenant="b"), "/events"),
    ]
    assert [reader.status for reader in [*readers, *others]] == [200] * 5
    with ExitStack() as left, api.http(key) as client:
        # A client that goes away makes room for another one.
        gone = left.enter_context(client.stream("GET", "/api/v1/events"))
        assert gone.status_code == 429
    api.server.should_exit = True
    for reader in [*readers, *others]:
        reader.ends()


def test_many_streams_cost_as_many_queries_as_one(
    api: ServedApi, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = 0
    real = queries_of_jobs.job_changes

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal queries
        queries += 1
        return real(*arguments, **options)

    monkeypatch.setattr(job_feed, "job_changes", counted)
    with api.http(key) as client:
        job = upload(client, "a.txt")
        readers = [Reader(api, key, url) for url in ["/events"] * 20 + [f"/jobs/{job}/events"] * 20]
        for reader in readers:
            eventually(reader.told)
        polls = 0
        real_identify = job_feed.JobFeed._end_invalid

        async def counted_poll(feed: job_feed.JobFeed) -> None:
            nonlocal polls
            polls += 1
            await real_identify(feed)

        monkeypatch.setattr(job_feed.JobFeed, "_end_invalid", counted_poll)
        eventually(lambda: polls >= 1)
        begun, queries = polls, 0
        eventually(lambda: polls >= begun + 5)
        # Two questions, for all jobs and for the streams of one job; one poll may be under way at each end.
        assert queries <= 2 * (polls - begun + 1)
    api.server.should_exit = True
    for reader in readers:
        reader.ends()
