"""PostgreSQL 18 with pgvector from its wheel, on a Unix socket that only this user may reach."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import quote

import structlog

from emberq.embedded.account import Account, unprivileged_account
from emberq.embedded.cluster import binary, installation, make_cluster
from emberq.embedded.datadir import DataDirectory, make_private
from emberq.embedded.passwords import PASSWORDS_FILE, Passwords
from emberq.embedded.process import READY_SECONDS, EngineExited, EngineProcess, StopStep
from emberq.embedded.provision import ACCESS_RULES, PREDECESSOR_ALIVE, provision
from emberq.errors import DatabaseUnavailable
from emberq.system.processes import process_identity, process_name, processes_of

#: Seconds PostgreSQL may replay its log after a crash. It answers that it is starting up, and stopping it
#: earlier would make the next start replay the log from the beginning.
_RECOVERY_SECONDS = 600.0

#: Fast shutdown (writes a checkpoint), immediate shutdown (recovers at the next start), kill.
_STEPS = (
    StopStep(signal.SIGINT, 30.0),
    StopStep(signal.SIGQUIT, 5.0),
    StopStep(signal.SIGKILL, 5.0),
)

#: Immediate shutdown when the owner dies: the server ends all of its processes. If it were killed, each would
#: have to notice that by itself, which takes long during a write to a slow disk.
_DEATH_SIGNAL = signal.SIGQUIT

#: Server settings that differ from PostgreSQL's defaults, or that no configuration may change.
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "cluster_name": "emberq",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "huge_pages": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    # A query of a client that has died ends, also once the server itself has been killed with its owner.
    "client_connection_check_interval": "500ms",
    # Compiling costs more than it saves on queries of milliseconds.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

#: Seconds until the server is started again then.
_RETRY_SECONDS = 0.2

_log = structlog.stdlib.get_logger(__name__)


class EmbeddedPostgres:
    """One PostgreSQL server in `postgres/data` of a data directory.

    Its roles have passwords, in a file of the data directory: the owner of the database, the API's and the
    workers'. None is a superuser, and the superuser `postgres` cannot connect.
    """

    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        self._root = data.path / "postgres"
        self._cluster = self._root / "data"
        self._sockets = data.socket_directory / "pg"
        self._passwords = data.path / PASSWORDS_FILE
        self._access_rules = data.path / "pg_hba.conf"
        self._process = EngineProcess("postgres", data, _STEPS, death_signal=_DEATH_SIGNAL)

    def url(self, role: str) -> str:
        """Return the SQLAlchemy URL of the database for a role.

        Raises:
            DatabaseUnavailable: If the database was never started.
        """
        password = Passwords.read(self._passwords).by_role[role]
        return f"postgresql+psycopg://{role}:{password}@/emberq?host={quote(str(self._sockets), safe='')}"

    @property
    def pid(self) -> int | None:
        """Pid of the running server, None while there is none."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the server runs and can be reached."""
        return self.pid is not None and (self._sockets / ".s.PGSQL.5432").exists()

    def start(self) -> None:
        """Start the server and wait until it answers; the first start creates database, roles and extension.

        Call it from the main thread: the server ends with the thread that started it.

        Raises:
            DatabaseUnavailable: If it does not start; the message quotes its log.
            DataDirectoryError: If a directory it needs belongs to another user.
        """
        if self.is_alive:
            return
        self._process.stop()
        gone = self._process.stop_leftover()
        account = unprivileged_account(self._root)
        self._make_directories(account)
        make_cluster(self._cluster, self._process, account=account, needs=self._needs())
        # A killed start may have left PostgreSQL in single-user mode, whose lock the next run would meet.
        self._end_predecessors(gone)
        provision(self._cluster, self._process, self._passwords, account=account, needs=self._needs())
        self._start_server(account)
        _log.info("postgres_started", pid=self.pid)

    def stop(self) -> None:
        """Stop the server, if it runs, within 40 seconds; clients are disconnected."""
        self._process.stop()

    def bound_log(self) -> None:
        """Keep the log below its limit; call it regularly."""
        self._process.bound_log()

    def _make_directories(self, account: Account | None) -> None:
        self._data.make_socket_directory()
        # The lock in it names a pid that may be another process's by now; no other server uses the directory.
        shutil.rmtree(self._sockets, ignore_errors=True)
        make_private(self._sockets)
        if not self._root.exists():
            self._data.make("postgres")
        elif account is None:
            make_private(self._root)
        if account is not None:
            for path in (self._root, self._sockets):
                os.chown(path, account.uid, account.gid)
                path.chmod(0o700)

    def _needs(self) -> list[Path]:
        share = installation() / "share"
        return [binary("postgres"), share, self._root, self._sockets]

    def _write_access_rules(self) -> None:
        """Write who may connect; not into the cluster, which may be another account's or have older rules."""
        new = self._access_rules.with_suffix(".new")
        new.write_text(ACCESS_RULES, encoding="ascii")
        new.chmod(0o644)
        new.replace(self._access_rules)

    def _spawn(self, account: Account | None) -> None:
        self._write_access_rules()
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(self._sockets),
            "hba_file": str(self._access_rules),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [binary("postgres"), "-D", self._cluster, *options]
        self._process.spawn(command, account=account, needs=self._needs())

    def _start_server(self, account: Account | None) -> None:
        since = time.monotonic()
        while True:
            try:
                self._spawn(account)
                self._process.wait_until(lambda: self._answers(since), seconds=_RECOVERY_SECONDS)
            except EngineExited as exc:
                passing = PREDECESSOR_ALIVE in self._process.log_tail()
                if not passing or time.monotonic() - since > READY_SECONDS:
                    raise self._process.failure(DatabaseUnavailable, str(exc)) from exc
                time.sleep(_RETRY_SECONDS)
            except TimeoutError as exc:
                failure = self._process.failure(DatabaseUnavailable, str(exc))
                self._process.stop()
                raise failure from exc
            else:
                return

    def _end_predecessors(self, gone: int | None) -> None:
        """Kill what remains of a killed start, and remove the lock of a PostgreSQL that has ended.

        What remains are processes of its program in its directory, which this process has locked.

        Args:
            gone: The pid of a server that has ended, which may be another process's by now.
        """
        until = time.monotonic() + READY_SECONDS
        while True:
            remains = processes_of(binary("postgres"), directory=self._cluster)
            for pid in remains:
                _log.warning("postgres_remains_ended", pid=pid)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            holder = self._lock_holder()
            # A killed process has left its directory some time before it is gone, or a zombie.
            if not remains and (holder in {None, gone} or not _may_be_postgres(holder)):
                if holder is not None:
                    self._lock.unlink(missing_ok=True)
                return
            if time.monotonic() > until:
                return
            time.sleep(_RETRY_SECONDS)

    @property
    def _lock(self) -> Path:
        return self._cluster / "postmaster.pid"

    def _lock_holder(self) -> int | None:
        """Return the pid in PostgreSQL's lock, which is negative in single-user mode; None without a lock."""
        with contextlib.suppress(OSError, ValueError):
            return abs(int(self._lock.read_text(errors="replace").split("\n", 1)[0]))
        return None

    def _answers(self, since: float) -> bool:
        # Imported while the server starts: it takes a quarter of a second.
        from psycopg import pq

        # Asks whether connections are accepted; it needs no password.
        answer = pq.PGconn.ping(f"host='{self._sockets}' dbname=postgres connect_timeout=5".encode())
        if answer == pq.Ping.NO_RESPONSE and time.monotonic() - since > READY_SECONDS:
            raise TimeoutError(f"postgres did not answer within {READY_SECONDS:.0f} s.")
        return answer == pq.Ping.OK


def _may_be_postgres(pid: int) -> bool:
    """Tell whether a process lives and is a PostgreSQL, or is not known not to be."""
    return process_identity(pid) is not None and process_name(pid) in {"", "postgres"}
