"""A TCP proxy that makes the server seem far away, and counts the round trips through it.

Every connection has four threads: one reads and one writes in each direction. What was read is passed on
after the delay, so that pipelined requests travel together, as they do in a real network.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from queue import SimpleQueue

__all__ = ["COUNTERS", "main", "read_counters"]

#: Names of the counters in the shared file, eight bytes each.
COUNTERS = ("turns", "connections")

#: Bytes taken from a socket at once; far more than a job's messages have.
_CHUNK_BYTES = 256 * 1024

#: What waits to be passed on: when it is due, and the bytes, none at the end.
_Line = SimpleQueue[tuple[float, bytes]]


class Counters:
    """Counters in a file that the measuring process reads while the proxy runs."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8 * len(COUNTERS)))
        with path.open("r+b") as file:
            self._memory = mmap(file.fileno(), 0)
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Count one more."""
        at = 8 * COUNTERS.index(name)
        with self._lock:
            value = int.from_bytes(self._memory[at : at + 8], "little") + 1
            self._memory[at : at + 8] = value.to_bytes(8, "little")


def read_counters(path: Path) -> dict[str, int]:
    """Return what a proxy has counted so far."""
    data = path.read_bytes()
    return {
        name: int.from_bytes(data[8 * index : 8 * index + 8], "little") for index, name in enumerate(COUNTERS)
    }


class Turns:
    """Counts a round trip whenever a client speaks first or again after it was answered."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._answered = True

    def request(self) -> None:
        """Note bytes from the client."""
        if self._answered:
            self._answered = False
            self._counters.add("turns")

    def response(self) -> None:
        """Note bytes from the server."""
        self._answered = True


def _read(source: socket.socket, line: _Line, delay_seconds: float, note: Callable[[], None]) -> None:
    data = b"-"
    while data:
        try:
            data = source.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        if data:
            note()
        line.put((time.monotonic() + delay_seconds, data))


def _write(target: socket.socket, line: _Line) -> None:
    while True:
        due, data = line.get()
        if not data:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)
            return
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        try:
            target.sendall(data)
        except OSError:
            return


def _join(client: socket.socket, server: socket.socket, delay_seconds: float, counters: Counters) -> None:
    turns = Turns(counters)
    for source, target, note in ((client, server, turns.request), (server, client, turns.response)):
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line: _Line = SimpleQueue()
        threading.Thread(target=_read, args=(source, line, delay_seconds, note), daemon=True).start()
        threading.Thread(target=_write, args=(target, line), daemon=True).start()


def main(upstream_port: int, delay_seconds: float, counters_path: Path) -> None:
    """Listen on a free port, print it, and serve until killed."""
    counters = Counters(counters_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            client, _ = listener.accept()
            counters.add("connections")
            _join(client, socket.create_connection(("127.0.0.1", upstream_port)), delay_seconds, counters)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
