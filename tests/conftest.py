"""Fixtures for all floors: one pair of engines per test process, a database of its own per test."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from emberq.config.environment import Environment
from emberq.embedded import Engines
from emberq.pipeline.sandbox.reader_handle import close_reader
from emberq.store.migrate import migrate
from emberq.store.services import Services, configure_services
from emberq.telemetry.logs import ensure_logs
from emberq.worker.job.tempdirs import use_root
from tests.harness.eventually import eventually
from tests.harness.leftovers import TestRun

TEMPLATE = "emberq_template"
#: Begun by the process that controls the run, before it starts those that run tests.
TEST_RUN = None if "PYTEST_XDIST_WORKER" in os.environ or sys.platform != "linux" else TestRun()
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that run at the same time do not see each other's temporary files.
    tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="w")
    Path(tempfile.tempdir).chmod(0o1777)
LEFT = pytest.StashKey[list[str]]()

#: Machines are shared: a slow example is no failure.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
ensure_logs()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves processes or directories behind."""
    close_reader()
    # The directory of jobs that ran in this process; xdist's workers do not get to deleting it at their exit.
    use_root(None)
    if TEST_RUN is not None:
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        left = session.config.stash[LEFT] = TEST_RUN.end(factory.getbasetemp())
        if left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what the run left behind."""
    for line in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND {line}", red=True)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """PostgreSQL and Valkey, as `emberq up` starts them."""
    with Engines(tmp_path_factory.mktemp("engines"), database_url=None, redis_url=None) as running:
        yield running


@pytest.fixture(scope="session")
def template_database(engines: Engines) -> str:
    """A migrated database that others are copied from in milliseconds."""
    from emberq.store.database import Database

    _admin(engines, f"CREATE DATABASE {TEMPLATE}")
    database = Database(_url(engines, TEMPLATE))
    migrate(database)
    database.close()
    return TEMPLATE


@pytest.fixture
def database_url(engines: Engines, template_database: str) -> Iterator[str]:
    """An empty, migrated database of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _admin(engines, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield _url(engines, name)
    _drop(engines, name)


@pytest.fixture
def redis_url(engines: Engines) -> Iterator[str]:
    """An empty Valkey."""
    from redis import Redis

    url = engines.redis_admin_url
    connection = Redis.from_url(url)
    connection.flushall()
    yield url
    connection.flushall()
    connection.close()


@pytest.fixture
def services(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Services]:
    """The services of this process, on the test's own database."""
    from emberq.redis_pools import close_redis_pools

    environment = Environment(data_dir=tmp_path)
    configured = configure_services(environment, database_url=database_url, redis_url=redis_url)
    yield configured
    configured.database.close()
    close_redis_pools()


@pytest.fixture
def models_dir() -> Path:
    """The directory of the real model; tests that need it say what to do when it is missing."""
    from emberq.models.files import find_model

    return find_model().directory


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out of the tests."""
    for name in list(os.environ):
        if name.startswith("EMBERQ_") and name != "EMBERQ_MODELS_DIR":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_temporary_files_left() -> Iterator[None]:
    """Fail a test that leaves a temporary file of emberq behind in this process."""
    directory = Path(tempfile.gettempdir())
    before = set(directory.glob("emberq-*"))
    yield
    # A process that ran jobs keeps its one directory for them until it ends.
    left = {path for path in directory.glob("emberq-*") if not path.name.startswith("emberq-jobs-")} - before
    assert not left, "the test left temporary files"


@pytest.fixture
def new_database(engines: Engines) -> Iterator[Callable[[], str]]:
    """Make empty databases without a schema."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        _admin(engines, f"CREATE DATABASE {name}")
        made.append(name)
        return _url(engines, name)

    yield make
    for name in made:
        _drop(engines, name)


def _url(engines: Engines, database: str) -> str:
    return engines.database_url.replace("/emberq?", f"/{database}?")


def _drop(engines: Engines, name: str) -> None:
    """Drop a database; a server process that cleans up in it just then is not ours to end, but soon done."""

    def drop() -> bool:
        _admin(engines, f"DROP DATABASE {name} WITH (FORCE)")
        return True

    eventually(drop, despite=ProgrammingError)


def _admin(engines: Engines, statement: str) -> None:
    engine = create_engine(_url(engines, "postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
