"""A change reaches every process that keeps a snapshot, by push or by poll."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text

from emberq.api.app import make_app
from emberq.config.current import get_config_cache, get_worker_config, pinned_config
from emberq.dispatch.settings_listener import SettingsListener
from emberq.store.admin.changes import change_settings
from emberq.store.services import Services
from emberq.telemetry import metrics
from tests.harness.eventually import LIMIT_SECONDS, eventually

#: Seconds in which a pushed change must be applied on a quiet machine; tests allow for a busy one.
PUSH_SECONDS = 0.25


def polling_every(seconds: float) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("follower", [seconds], indirect=True)


def put(services: Services, key: str, value: object) -> int:
    with services.database.system_transaction() as connection:
        return change_settings(connection, services.sealer, {key: value}, changed_by="test")


def put_in_silence(services: Services, key: str, value: object) -> int:
    """Make a change whose notice is never delivered."""
    with services.database.system_transaction() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS silence"))
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION silence.pg_notify(text, text) RETURNS void"
                " LANGUAGE sql AS 'SELECT'"
            )
        )
    with services.database.system_transaction() as connection:
        connection.execute(text("SET LOCAL search_path = silence, pg_catalog, public"))
        return change_settings(connection, services.sealer, {key: value}, changed_by="test")


def tick_until(follower: SettingsListener, condition: Callable[[], bool]) -> None:
    """Tick as the supervisor does until the condition holds."""

    def tick() -> bool:
        follower.tick()
        return condition()

    eventually(tick)


def cut(services: Services, name: str) -> int:
    """End the server's side of the listener's connection."""
    with services.database.system_transaction() as connection:
        ended: int = connection.execute(
            text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = :name"
            ),
            {"name": f"emberq-config-{name}"},
        ).scalar_one()
    return ended


def losses() -> float:
    """Return how often the push was lost, as this process's metrics have it."""
    metrics.enable()
    registry = metrics.metrics_registry()
    assert registry is not None
    return registry.get_sample_value("emberq_config_push_losses_total") or 0.0


@pytest.fixture
def follower(services: Services, request: pytest.FixtureRequest) -> Iterator[SettingsListener]:
    """A follower that has ticked once; `polling_every` sets the seconds between its polls."""
    get_worker_config()
    made = SettingsListener(services, name="test", poll_seconds=getattr(request, "param", 5.0))
    made.tick()
    yield made
    made.close()


@contextmanager
def running(services: Services, name: str) -> Iterator[SettingsListener]:
    """A follower in a thread, as the API runs it."""
    made, stop = SettingsListener(services, name=name), threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: made.listener.is_connected)
        yield made
    finally:
        stop.set()
        thread.join()


def test_a_pushed_change_is_in_the_snapshot_within_a_quarter_of_a_second(services: Services) -> None:
    cache = get_config_cache()
    cache.get()
    delays = []
    with running(services, "thread"):
        for value in range(1, 21):
            version = put(services, "rag_top_k", value)
            committed = time.monotonic()
            eventually(lambda version=version: cache._snapshot.version == version)  # type: ignore[misc,union-attr]
            delays.append(time.monotonic() - committed)
        assert get_worker_config().settings.rag_top_k == 20
    # The median, because a shared machine sometimes stands still; every one arrived in any case.
    assert sorted(delays)[len(delays) // 2] < PUSH_SECONDS
    assert cache.builds == 21


def test_one_tick_is_enough_after_a_commit(services: Services, follower: SettingsListener) -> None:
    heard: list[int] = []
    follower._on_change = lambda snapshot: heard.append(snapshot.version)
    for value in (7, 8, 9):
        put(services, "rag_top_k", value)
    follower.listener.wait(LIMIT_SECONDS)
    tick_until(follower, lambda: heard[-1:] == [3])
    assert get_config_cache().builds <= 4
    assert follower.is_pushed


def test_a_tick_that_finds_nothing_asks_nothing(services: Services, follower: SettingsListener) -> None:
    follower.tick()
    before = services.database.count_connections()
    services.database.close()
    for _ in range(50):
        follower.tick()
    assert services.database.count_connections() == (0, 0)
    assert sum(before) >= 1
    assert get_config_cache().builds == 1


def test_a_cut_connection_is_made_again_and_what_was_missed_is_asked_for(
    services: Services, follower: SettingsListener
) -> None:
    follower._poll_due = float("inf")
    counted = losses()
    assert cut(services, "test") == 1
    version = put(services, "rag_top_k", 7)
    tick_until(follower, lambda: get_config_cache().newest.version == version)
    assert (follower.listener.connects, follower.listener.losses) == (2, 1)
    assert losses() == counted + 1
    assert get_worker_config().version == version
    put(services, "rag_top_k", 8)
    tick_until(follower, lambda: get_worker_config().settings.rag_top_k == 8)
    assert follower.listener.connects == 2


@polling_every(0.3)
def test_while_push_is_dead_the_version_is_polled(
    services: Services, follower: SettingsListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower.listener, "_conninfo", b"host=/nowhere connect_timeout=2")
    assert cut(services, "test") == 1
    tick_until(follower, lambda: not follower.listener.is_connected)
    follower.tick()
    version = put(services, "rag_top_k", 7)
    tick_until(follower, lambda: get_worker_config().version == version)
    assert not follower.is_pushed
    assert follower.listener.connects == 1


def test_the_delays_between_tries_to_connect_grow(
    services: Services, follower: SettingsListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = follower.listener
    monkeypatch.setattr(listener, "_conninfo", b"host=/nowhere connect_timeout=2")
    assert cut(services, "test") == 1
    tick_until(follower, lambda: not listener.is_connected)
    pauses = []
    for _ in range(12):
        pauses.append(listener._not_before - time.monotonic())
        listener._not_before = 0.0
        assert listener.poll() == []
    assert pauses[0] < 0.2
    assert 1.0 < pauses[-1] <= 5.0


@polling_every(0.3)
def test_a_change_that_was_not_pushed_is_found_by_the_next_poll(
    services: Services, follower: SettingsListener
) -> None:
    version = put_in_silence(services, "rag_top_k", 7)
    follower.listener.wait(0.1)
    assert follower.listener.poll() == []
    tick_until(follower, lambda: get_worker_config().version == version)
    assert follower.listener.connects == 1


def test_a_forked_child_neither_hears_nor_harms_its_parents_connection(
    services: Services, follower: SettingsListener
) -> None:
    pid = os.fork()
    if pid == 0:
        harmless = not follower.listener.is_connected and follower.listener.poll() == []
        follower.listener.close()
        os._exit(0 if harmless else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    put(services, "rag_top_k", 7)
    follower.listener.wait(LIMIT_SECONDS)
    tick_until(follower, lambda: get_worker_config().settings.rag_top_k == 7)
    assert (follower.listener.connects, follower.listener.losses) == (1, 0)


def test_the_api_hears_of_changes_that_others_made(services: Services) -> None:
    async def serve_while_settings_change() -> None:
        app = make_app(maintenance=False)
        async with app.router.lifespan_context(app):
            eventually(lambda: get_config_cache().newest.confirmed_at > 0)
            version = put(services, "rag_top_k", 7)
            eventually(lambda: get_config_cache().applied_version == version)

    asyncio.run(serve_while_settings_change())
    assert "emberq-config" not in {thread.name for thread in threading.enumerate()}


@contextmanager
def away(services: Services) -> Iterator[None]:
    """Cut all connections to the test's database and refuse new ones."""
    url = services.database.engine.url
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
        try:
            yield
        finally:
            connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true"))
    admin.dispose()


@polling_every(0.05)
def test_while_the_database_is_away_the_last_snapshot_serves_and_afterwards_the_newest(
    services: Services, follower: SettingsListener
) -> None:
    with away(services):
        tick_until(follower, lambda: not follower.listener.is_connected)
        for _ in range(20):
            follower.tick()
        get_config_cache().newest.announce(1)
        assert get_worker_config().version == 0
        assert not follower.is_pushed
    version = put(services, "rag_top_k", 7)
    tick_until(follower, lambda: get_worker_config().version == version)
    tick_until(follower, lambda: follower.is_pushed)


def test_a_horse_forked_before_a_change_hears_of_it_from_its_host(
    services: Services, follower: SettingsListener
) -> None:
    ask, answer = os.pipe(), os.pipe()
    services.database.close()
    pid = os.fork()
    if pid == 0:
        services.database.after_fork()
        os.read(ask[0], 1)
        snapshot = get_worker_config()
        os.write(answer[1], f"{snapshot.version} {snapshot.settings.rag_top_k}".encode())
        os._exit(0)
    version = put(services, "rag_top_k", 7)
    tick_until(follower, lambda: get_worker_config().version == version)
    os.write(ask[1], b"?")
    heard = os.read(answer[0], 64)
    os.waitpid(pid, 0)
    for descriptor in (*ask, *answer):
        os.close(descriptor)
    assert heard == f"{version} 7".encode()


def test_a_claim_has_the_right_settings_without_a_listener(services: Services) -> None:
    before = get_worker_config()
    for value in (7, 8, 9):
        claimed = put(services, "rag_top_k", value)
        later = put(services, "rag_hybrid", value % 2 == 0)
        with pinned_config():
            snapshot = get_worker_config(version=claimed)
            assert (snapshot.version, snapshot.settings.rag_top_k) == (claimed, value)
            assert get_worker_config(version=claimed) is get_worker_config() is snapshot
        assert later > claimed
    assert before.settings.rag_top_k == 5
    assert get_config_cache().builds == 4
