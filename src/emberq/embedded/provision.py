"""What a database needs before its first start: roles, database, extension; written in single-user mode.

In this mode PostgreSQL serves its standard input as the superuser. There is no other way to be superuser: the
server refuses its connections, and it has no password.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from emberq.embedded.cluster import binary, installation
from emberq.embedded.passwords import API_ROLE, OWNER_ROLE, WORKER_ROLE, Passwords
from emberq.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emberq.embedded.account import Account
    from emberq.embedded.process import EngineProcess

#: Who may connect: over the private socket, with a password; the superuser never.
ACCESS_RULES = "local all postgres reject\nlocal all all scram-sha-256\n"

#: Seconds that one run may take; after a crash it replays the log first.
_RUN_SECONDS = 600.0
#: Seconds in which the children of a killed server end, and between two tries.
_PREDECESSOR_SECONDS, _RETRY_SECONDS = 60.0, 0.2
#: What PostgreSQL says while children of a killed predecessor still use its shared memory; it passes.
PREDECESSOR_ALIVE = "still in use"

_MAKE_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; END IF;
END $$"""
#: A password of 256 random bits needs no stretching, which would cost each connection milliseconds.
_FEW_ITERATIONS = "SET scram_iterations = 1"
#: The owner may make roles that read a view, for other programs. The API may end the transactions of workers.
_RIGHTS = (
    f"ALTER ROLE {OWNER_ROLE} CREATEDB CREATEROLE",
    f"GRANT pg_monitor TO {OWNER_ROLE}",
    f"GRANT {WORKER_ROLE} TO {API_ROLE}",
    "ALTER ROLE postgres PASSWORD NULL",
)
_EXTENSION = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    "ALTER EXTENSION vector UPDATE",
    # Below a policy PostgreSQL uses an index only for functions that are marked so: here, the index of words.
    "ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF",
)
_MAKE_DATABASE = f"CREATE DATABASE emberq OWNER {OWNER_ROLE}"
_DATABASE_EXISTS = 'database "emberq" already exists'


def provision(
    cluster: Path, process: EngineProcess, passwords: Path, *, account: Account | None, needs: Sequence[Path]
) -> None:
    """Make what is missing, while the server does not run; an earlier start may have been killed.

    Args:
        cluster: The cluster's directory.
        process: The server's process, which runs PostgreSQL's tools.
        passwords: The file of the passwords; made if it is missing.
        account: The cluster's owner, None for this process's user.
        needs: Paths that PostgreSQL must reach.

    Raises:
        DatabaseUnavailable: If PostgreSQL refuses a statement, or the file cannot be read.
    """
    known = Passwords.read(passwords) if passwords.exists() else Passwords.new()
    wanted = _fingerprint(known.by_role)
    if known.provisioned == wanted:
        return
    known.write(passwords)
    run = _SingleUser(cluster, process, account=account, needs=needs)
    # So that databases made later have the extension, which only a superuser may add.
    run("template1", _EXTENSION)
    run("postgres", _roles(known.by_role))
    run("postgres", [_MAKE_DATABASE], unless=_DATABASE_EXISTS)
    run("emberq", _EXTENSION)
    Passwords(known.by_role, wanted).write(passwords)


def _roles(passwords: Mapping[str, str]) -> list[str]:
    statements = [_FEW_ITERATIONS]
    for role, password in passwords.items():
        statements += [_MAKE_ROLE.format(role=role), f"ALTER ROLE {role} LOGIN PASSWORD '{password}'"]
    return [*statements, *_RIGHTS]


def _fingerprint(passwords: Mapping[str, str]) -> str:
    """Return what changes with the statements, the passwords and the version of the extension."""
    control = installation() / "share" / "extension" / "vector.control"
    text = "\n".join([*_roles(passwords), *_EXTENSION, _MAKE_DATABASE, control.read_text(encoding="utf-8")])
    return hashlib.sha256(text.encode()).hexdigest()


class _SingleUser:
    """Runs statements in single-user mode."""

    def __init__(
        self, cluster: Path, process: EngineProcess, *, account: Account | None, needs: Sequence[Path]
    ) -> None:
        self._process = process
        self._account = account
        self._needs = needs
        options = ("exit_on_error=on", "log_min_messages=error", "max_prepared_transactions=0")
        self._command: list[str | Path] = [binary("postgres"), "--single", "-j", "-D", cluster]
        self._command += [word for option in options for word in ("-c", option)]

    def __call__(self, database: str, statements: Sequence[str], *, unless: str = "") -> None:
        """Run statements in a database; `unless` is an error that means that there is nothing to do."""
        text = "".join(f"{statement.strip()};\n\n" for statement in statements)
        deadline = time.monotonic() + _PREDECESSOR_SECONDS
        while True:
            try:
                done = self._process.run(
                    [*self._command, database],
                    account=self._account,
                    needs=self._needs,
                    seconds=_RUN_SECONDS,
                    written=text,
                )
            except subprocess.TimeoutExpired as exc:
                raise DatabaseUnavailable(f"PostgreSQL did not end within {_RUN_SECONDS:.0f} s.") from exc
            if done.returncode == 0 or (unless and unless in done.stderr):
                return
            if PREDECESSOR_ALIVE not in done.stderr or time.monotonic() > deadline:
                raise self._process.failure(DatabaseUnavailable, "The database cannot be set up.", done)
            time.sleep(_RETRY_SECONDS)
