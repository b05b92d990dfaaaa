"""Who may connect to the embedded PostgreSQL, and what each role may do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from emberq.embedded import Engines
from emberq.embedded.passwords import OWNER_ROLE, PASSWORDS_FILE, Passwords
from emberq.store.database import Database
from emberq.store.migrate import migrate

#: Tries, as another user, to connect without a password, to reach the socket, and to read the passwords.
_STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(64000); os.setuid(64000)
for attempt in (
    lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1] + "/.s.PGSQL.5432"),
    lambda: open(sys.argv[2]).read(),
):
    try:
        attempt()
        print("reached")
    except PermissionError:
        print("refused")
"""


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


def refused(url: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(url).close()
    return str(caught.value)


def without_passwords(running: Engines, user: str) -> str:
    return f"host={conninfo_to_dict(plain(running.database_url))['host']} user={user} dbname=emberq"


def test_nobody_connects_without_a_password_and_the_superuser_not_at_all(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url=None, redis_url="redis://r") as running:
        for role in ("emberq", "emberq_api", "emberq_worker"):
            assert "password" in refused(without_passwords(running, role))
        assert "rejects connection" in refused(without_passwords(running, "postgres"))
        with psycopg.connect(plain(running.database_url)) as connection:
            powers = connection.execute(
                "SELECT rolname FROM pg_roles"
                " WHERE rolcanlogin AND (rolsuper OR rolbypassrls OR rolreplication)"
            ).fetchall()
            assert powers == [("postgres",)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("COPY pg_user TO PROGRAM 'cat'")
    assert (tmp_path / PASSWORDS_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reaches_neither_the_socket_nor_the_passwords(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Engines(tmp_path / "data", database_url=None, redis_url="redis://r") as running:
        sockets = str(conninfo_to_dict(plain(running.database_url))["host"])
        arguments = [sockets, str(tmp_path / "data" / PASSWORDS_FILE)]
        done = subprocess.run(
            [sys.executable, "-c", _STRANGER, *arguments], capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["refused", "refused"]


def test_a_cluster_that_trusted_every_process_trusts_none_after_a_start(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url=None, redis_url="redis://r") as running:
        with psycopg.connect(plain(running.database_url)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        old = running.database_url
    # As earlier versions left it: no passwords, and everything is trusted.
    (tmp_path / PASSWORDS_FILE).unlink()
    rules = tmp_path / "postgres" / "data" / "pg_hba.conf"
    rules.write_text("local all all trust\n")
    with Engines(tmp_path, database_url=None, redis_url="redis://r") as running:
        assert running.database_url != old
        assert "password" in refused(without_passwords(running, "emberq"))
        assert "rejects connection" in refused(without_passwords(running, "postgres"))
        assert "password authentication failed" in refused(plain(old))
        with psycopg.connect(plain(running.database_url)) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]


def test_a_start_that_was_cut_off_is_finished_by_the_next_one(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url=None, redis_url="redis://r") as running:
        url = running.database_url
    known = json.loads((tmp_path / PASSWORDS_FILE).read_text())
    Passwords({**known["by_role"], OWNER_ROLE: "another"}).write(tmp_path / PASSWORDS_FILE)
    with Engines(tmp_path, database_url=None, redis_url="redis://r") as running:
        assert running.database_url != url
        psycopg.connect(plain(running.database_url)).close()


def test_the_api_changes_no_tables_and_workers_reach_no_keys(tmp_path: Path) -> None:
    with Engines(tmp_path, database_url=None, redis_url="redis://r") as running:
        owner = Database(running.database_url)
        migrate(owner)
        owner.close()
        for url in (running.api_database_url, running.worker_database_url):
            # It finds the newest schema, and may not make another one.
            database = Database(url)
            assert len(set(migrate(database))) == 1
            database.close()
            for statement in ("CREATE TABLE x (n int)", "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY"):
                denied(url, statement)
        for statement in (
            "SELECT * FROM api_keys",
            "INSERT INTO api_keys (tenant) VALUES ('x')",
            "SELECT * FROM audit_log",
            "UPDATE settings SET value = '{}'",
            "DELETE FROM settings_history",
            "DELETE FROM collections",
        ):
            denied(running.worker_database_url, statement)
            with psycopg.connect(plain(running.api_database_url), options="-c emberq.system=on") as api:
                if not statement.startswith("INSERT"):
                    api.execute(statement.encode())
                api.rollback()


def denied(url: str, statement: str) -> None:
    with (
        psycopg.connect(plain(url), options="-c emberq.system=on") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
