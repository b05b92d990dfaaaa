"""Metrics of one host: the directory in which its processes count, and the process that serves the sums."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

from emberq.errors import InvalidRequest
from emberq.system.messages import Message, receive, send
from emberq.system.processes import is_process_alive
from emberq.telemetry import metrics
from emberq.telemetry.endpoint import open_endpoint, serve_endpoint
from emberq.telemetry.exposition import absorb_dead
from emberq.telemetry.logs import get_logger
from emberq.worker.job.owned_directory import OwnedDirectory
from emberq.worker.preloader.parked_socket import ParkedSocket
from emberq.worker.preloader.preloader import Child, PreloaderClient

log = get_logger(__name__)

#: Seconds for which a port in use is tried again.
_BIND_SECONDS = 1.0


class MetricsEndpoint:
    """Switches metrics on for a host and keeps `/metrics` served by a child of the preloader.

    A supervisor binds the port, runs the role `metrics` beside its slots, and gives it the socket. A worker
    without a supervisor calls `maintain` every few seconds: of several workers with one port one serves for
    all, and another takes over when it ends.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        directory: Path | None = None,
        parent: Path | None = None,
    ) -> None:
        """Take the addresses; nothing is opened yet.

        Args:
            host: Address to serve on.
            port: Port to serve on, 0 for a free one; nothing is served where left out.
            directory: The directory in which all workers of the host count.
            parent: The directory in which one of this process's own is made if none is given; left out,
                metrics are on only if there is a port, and count in a temporary directory.
        """
        self._host = host
        self._port = port
        self._directory = directory
        self._parent = parent
        self._own_directory: Path | None = None
        self._temporary: OwnedDirectory | None = None
        self._listener: ParkedSocket | None = None
        self._child: Child | None = None

    @classmethod
    def from_variables(cls) -> MetricsEndpoint:
        """Read `EMBERQ_METRICS_DIR`, `EMBERQ_METRICS_PORT` and `EMBERQ_HOST`."""
        directory, port = os.environ.get("EMBERQ_METRICS_DIR"), os.environ.get("EMBERQ_METRICS_PORT", "")
        return cls(
            host=os.environ.get("EMBERQ_HOST", "127.0.0.1"),
            port=int(port) if port.isdigit() else None,
            directory=Path(directory) if directory else None,
        )

    def enable(self) -> None:
        """Switch metrics on; before the preloader starts, so that every process counts."""
        if metrics.is_enabled():
            self._port = None
            return
        if self._directory is None and (self._parent is not None or self._port is not None):
            self._directory = self._own_directory = self._make_directory()
        if self._directory is not None:
            # Spawned processes, which inherit no memory, find the directory by this.
            os.environ["EMBERQ_METRICS_DIR"] = str(self._directory)
        metrics.enable_from_environment()

    def bind(self) -> dict[str, ParkedSocket]:
        """Bind the port, if there is one; return the role that a supervisor keeps alive, with its socket.

        Raises:
            InvalidRequest: If the address cannot be bound; says why.
        """
        if self._port is None:
            return {}
        try:
            self._listener = ParkedSocket(self._open())
        except OSError as exc:
            self.close()
            raise InvalidRequest(
                f"Cannot serve metrics on {self._host}:{self._port}: {exc.strerror or exc}.",
                hint="Stop what uses the port, or choose another one with EMBERQ_METRICS_PORT.",
            ) from exc
        log.info("metrics_served", port=self._listener.address[1])
        return {"metrics": self._listener}

    def role(self, _spec: Message, channel: socket.socket) -> None:
        """Serve until told to end; the body of the preloader's role `metrics`."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
        metrics.open_own_files()
        if self._listener is not None:
            _, given = receive(channel)
            if not given:
                return
            listener = socket.socket(fileno=given[0])
        else:
            try:
                listener = open_endpoint(self._host, self._port or 0)
            except OSError as exc:
                log.debug("metrics_served_by_another", port=self._port, error=exc.strerror)
                return
            log.info("metrics_served", port=listener.getsockname()[1])
        send(channel, {"ready": ""})
        serve_endpoint(listener)

    def maintain(self, preloader: PreloaderClient) -> None:
        """Add up the counts of dead processes and start the endpoint if it has ended; call it regularly."""
        if not metrics.is_enabled():
            return
        metrics.sample()
        absorb_dead()
        if self._port is None:
            return
        if self._child is not None and _has_ended(self._child):
            self._child.channel.close()
            self._child = None
        if self._child is None:
            self._child = preloader.fork("metrics")

    def close(self) -> None:
        """Stop serving and delete the directory if it is this process's own."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGTERM)
            self._child.channel.close()
            self._child = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._own_directory is not None:
            shutil.rmtree(self._own_directory, ignore_errors=True)
            os.environ.pop("EMBERQ_METRICS_DIR", None)
        if self._temporary is not None:
            self._temporary.remove()

    def _open(self) -> socket.socket:
        """Bind the port; the endpoint of a supervisor that was killed may need a moment to be gone."""
        deadline = time.monotonic() + _BIND_SECONDS
        while True:
            try:
                return open_endpoint(self._host, self._port or 0)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_BIND_SECONDS / 50)

    def _make_directory(self) -> Path:
        if self._parent is None:
            self._temporary = OwnedDirectory("emberq-metrics-")
            return self._temporary.path
        host = socket.gethostname()
        # Directories of killed supervisors; those of other hosts on a shared disk are not ours.
        for left in self._parent.glob(f"{host}-*"):
            if not is_process_alive(int(left.name.rpartition("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
        return self._parent / f"{host}-{os.getpid()}"


def _has_ended(child: Child) -> bool:
    try:
        while child.channel.recv(4096, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
