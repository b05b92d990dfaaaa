from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
import sqlalchemy

from emberq.embedded import DataDirectoryInUse, EmbeddedPostgres, Engines
from emberq.embedded.datadir import DataDirectory
from emberq.embedded.passwords import OWNER_ROLE
from emberq.errors import DatabaseUnavailable
from emberq.system.processes import process_identity
from tests.harness.eventually import eventually
from tests.harness.process_table import running_in


def _query(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def _redis(url: str, *command: str) -> object:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def _pids(running: Engines) -> dict[str, int]:
    assert running._postgres is not None
    assert running._valkey is not None
    assert running._postgres.pid is not None
    assert running._valkey.pid is not None
    return {"postgres": running._postgres.pid, "valkey": running._valkey.pid}


@pytest.fixture(scope="module")
def cluster_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "data"
    with Engines(path, database_url=None, redis_url=None):
        pass
    return path


@pytest.fixture
def data_dir(cluster_template: Path, tmp_path: Path) -> Iterator[Path]:
    """A data directory that was used before; the slow first start is paid once a module."""
    path = tmp_path / "data dir ü"
    shutil.copytree(cluster_template, path)
    for original in cluster_template.rglob("*"):
        copied = path / original.relative_to(cluster_template)
        status = original.stat()
        if copied.stat().st_uid != status.st_uid:
            os.chown(copied, status.st_uid, status.st_gid)
    yield path
    assert running_in(path) == []


def test_the_first_start_makes_a_database_with_vectors_and_stop_leaves_no_process(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with Engines(path, database_url=None, redis_url=None) as running:
        assert _query(running.database_url, "SELECT '[1,2]'::halfvec::text") == [("[1,2]",)]
        assert _query(running.database_url, "SELECT extname FROM pg_extension WHERE extname = 'vector'")
        assert _query(running.database_url, "SHOW server_version")[0][0].startswith("18")  # type: ignore[attr-defined]
        assert _query(running.database_url, "SHOW data_checksums") == [("on",)]
        assert _query(running.database_url, "SHOW server_encoding") == [("UTF8",)]
        assert _redis(running.redis_admin_url, "INFO", "server")["server_name"] == "valkey"  # type: ignore[index]
        assert set(_pids(running).values()) <= set(running_in(path))
        assert running.check() == ()
    assert running_in(path) == []
    assert running.check() == ()


def test_data_of_both_engines_is_there_after_a_restart(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        _query(running.database_url, "CREATE TABLE kept (n int)")
        _query(running.database_url, "INSERT INTO kept VALUES (7)")
        _redis(running.redis_admin_url, "SET", "kept", "7")
        urls = (running.database_url, running.redis_url)
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        assert (running.database_url, running.redis_url) == urls
        assert _query(running.database_url, "SELECT n FROM kept") == [(7,)]
        assert _redis(running.redis_admin_url, "GET", "kept") == "7"


def test_the_applications_role_is_no_superuser_but_makes_databases_with_the_extension(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        assert _query(running.database_url, "SELECT usesuper FROM pg_user WHERE usename = current_user") == [
            (False,)
        ]
        server = running.database_url.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE other")
        other = running.database_url.replace("/emberq?", "/other?")
        assert _query(other, "SELECT '[1]'::vector::text") == [("[1]",)]


def test_full_text_knows_punctuation_and_case_beyond_ascii(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        found = _query(
            running.database_url, "SELECT tsvector_to_array(to_tsvector('simple', '“ÄPFEL” — 「日本」'))"
        )
    assert found == [(["äpfel", "日本"],)]


def test_the_terminals_signals_do_not_reach_the_engines(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        for pid in _pids(running).values():
            assert os.getpgid(pid) == pid != os.getpgrp()


def test_postgres_never_runs_as_root_and_sockets_are_private(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        assert psutil.Process(_pids(running)["postgres"]).uids().real != 0
        assert _query(running.database_url, "SHOW listen_addresses") == [("",)]
        assert running._data is not None
        assert running._data.socket_directory.stat().st_mode & 0o066 == 0
        assert (running._data.socket_directory / "pg").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("victims", [("postgres",), ("valkey",), ("postgres", "valkey")])
def test_ensure_starts_a_killed_engine_again_with_its_data(data_dir: Path, victims: tuple[str, ...]) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        _query(running.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
        _redis(running.redis_admin_url, "SET", "kept", "7")
        before = _pids(running)
        assert running.ensure() == ()
        for name in victims:
            os.kill(before[name], signal.SIGKILL)
        eventually(lambda: running.check() == victims)
        assert running.ensure() == victims
        after = _pids(running)
        assert {name for name in before if before[name] != after[name]} == set(victims)
        assert _query(running.database_url, "SELECT n FROM kept") == [(7,)]
        assert _redis(running.redis_admin_url, "GET", "kept") == "7"


def test_ensure_waits_for_a_backend_that_outlives_its_killed_server(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        url = running.database_url.replace("+psycopg", "")
        with closing(psycopg.connect(url)) as connection, ThreadPoolExecutor(1) as pool:
            # It computes, so it does not look whether the server still lives.
            pool.submit(connection.execute, "SELECT sum(sqrt(n)) FROM generate_series(1, 12000000) n")
            backend = psutil.Process(connection.info.backend_pid)
            identity = process_identity(backend.pid)
            eventually(lambda: backend.cpu_times().user > 0.2)
            os.kill(_pids(running)["postgres"], signal.SIGKILL)
            eventually(lambda: running.check() == ("postgres",))
            assert process_identity(backend.pid) == identity
            assert running.ensure() == ("postgres",)
            assert process_identity(backend.pid) != identity
        assert _query(running.database_url, "SELECT 1") == [(1,)]


def test_valkey_lets_only_accounts_of_its_own_in(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        stranger = running.redis_url.replace("emberq:", "emberq:not-", 1)
        for url in (stranger, f"unix://{urlsplit(running.redis_url).path}"):
            with pytest.raises(redis.exceptions.AuthenticationError):
                _redis(url, "PING")
        assert _redis(running.redis_url, "SET", "rq:x", "1") is True
        for forbidden in (
            ["SET", "x", "1"],
            ["FLUSHALL"],
            ["CONFIG", "GET", "dir"],
            ["ACL", "LIST"],
            ["KEYS", "*"],
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                _redis(running.redis_url, *forbidden)
        assert _redis(running.redis_admin_url, "FLUSHALL") is True
        passwords = [urlsplit(url).password or "" for url in (running.redis_url, running.redis_admin_url)]
        shown = b"".join(
            Path(f"/proc/{running._valkey.pid}/{name}").read_bytes()  # type: ignore[union-attr]
            for name in ("cmdline", "environ")
            if sys.platform == "linux"
        )
        shown += (tmp_path / "log" / "valkey.log").read_bytes() + (
            tmp_path / "valkey" / "users.acl"
        ).read_bytes()
        assert not any(password.encode() in shown for password in passwords)
    for name in ("valkey-passwords.json", "valkey/users.acl"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_ensure_gives_a_vanished_socket_back(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        assert running._data is not None
        shutil.rmtree(running._data.socket_directory)
        assert running.ensure() == ("postgres", "valkey")
        assert _query(running.database_url, "SELECT 1") == [(1,)]
        assert _redis(running.redis_url, "PING") is True


def test_a_second_instance_is_refused_and_the_first_goes_on(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        second = Engines(data_dir, database_url=None, redis_url=None)
        with pytest.raises(DataDirectoryInUse):
            second.start()
        assert running.check() == ()
        assert _query(running.database_url, "SELECT 1") == [(1,)]


def test_with_both_urls_nothing_is_started_or_touched(tmp_path: Path) -> None:
    path = tmp_path / "untouched"
    with Engines(path, database_url="postgresql+psycopg://db/x", redis_url="redis://r") as running:
        assert (running.database_url, running.redis_url) == ("postgresql+psycopg://db/x", "redis://r")
        assert running.check() == ()
        assert running.ensure() == ()
    assert not path.exists()


def test_with_a_database_url_only_valkey_is_started(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        assert _redis(running.redis_url, "PING") is True
    assert not (tmp_path / "postgres").exists()


def test_a_path_too_long_for_sockets_works(cluster_template: Path, tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30)
    with Engines(path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        assert _redis(running.redis_url, "PING") is True
        assert str(path) not in running.redis_url
    with DataDirectory(path) as data:
        postgres = EmbeddedPostgres(data)
        postgres.start()
        try:
            assert _query(postgres.url(OWNER_ROLE), "SELECT 1") == [(1,)]
        finally:
            postgres.stop()
        outside = data.socket_directory
    assert not outside.exists()


def test_a_damaged_append_only_file_is_set_aside_and_valkey_starts_empty(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        _redis(running.redis_admin_url, "SET", "gone", "1")
    (written,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    written.write_bytes(b"this is not a command\r\n" + written.read_bytes())
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        assert _redis(running.redis_admin_url, "GET", "gone") is None
        _redis(running.redis_admin_url, "SET", "new", "1")
    assert (tmp_path / "valkey" / "appendonlydir.corrupt" / written.name).exists()
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        assert _redis(running.redis_admin_url, "GET", "new") == "1"


def test_a_cut_append_only_file_keeps_what_came_before_the_cut(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        _redis(running.redis_admin_url, "SET", "kept", "1")
    (written,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    with written.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nlo")
    with Engines(tmp_path, database_url="postgresql+psycopg://db/x", redis_url=None) as running:
        assert _redis(running.redis_admin_url, "GET", "kept") == "1"
    assert not (tmp_path / "valkey" / "appendonlydir.corrupt").exists()


def test_a_server_that_cannot_start_is_reported_with_its_log_and_all_is_stopped(data_dir: Path) -> None:
    (data_dir / "postgres" / "data" / "global" / "pg_control").unlink()
    failing = Engines(data_dir, database_url=None, redis_url=None)
    with pytest.raises(DatabaseUnavailable) as refused:
        failing.start()
    assert "pg_control" in refused.value.message
    assert "postgres.log" in refused.value.hint
    assert running_in(data_dir) == []
    with DataDirectory(data_dir):
        pass


def test_a_cluster_of_another_major_version_is_refused_by_name(data_dir: Path) -> None:
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL 17"):
        Engines(data_dir, database_url=None, redis_url=None).start()


def test_a_stale_lock_whose_pid_another_process_has_now_does_not_keep_postgres_from_starting(
    data_dir: Path,
) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        os.kill(_pids(running)["postgres"], signal.SIGKILL)
        eventually(lambda: running.check() == ("postgres",))
    # As after a container's restart: both files name a pid that lives, but is somebody else of the same user.
    cluster = data_dir / "postgres" / "data"
    with subprocess.Popen(["sleep", "60"], user=cluster.stat().st_uid) as stranger:
        lock = (cluster / "postmaster.pid").read_text().split("\n", 1)
        (cluster / "postmaster.pid").write_text(f"{stranger.pid}\n{lock[1]}")
        identity = (data_dir / "postgres.pid").read_text().split(" ", 1)[1]
        (data_dir / "postgres.pid").write_text(f"{stranger.pid} {identity}")
        try:
            with Engines(data_dir, database_url=None, redis_url=None) as running:
                assert _query(running.database_url, "SELECT 1") == [(1,)]
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_log_that_grew_too_long_is_set_aside_while_the_engine_runs(data_dir: Path) -> None:
    with Engines(data_dir, database_url=None, redis_url=None) as running:
        log = data_dir / "log" / "postgres.log"
        with log.open("ab") as file:
            file.write(b"x" * (9 * 1024 * 1024))
        assert running.ensure() == ()
        assert log.stat().st_size == 0
        with pytest.raises(sqlalchemy.exc.ProgrammingError):
            _query(running.database_url, "SELECT * FROM missing")
        assert b"missing" in log.read_bytes()
    assert (data_dir / "log" / "postgres.log.1").stat().st_size <= 8 * 1024 * 1024
