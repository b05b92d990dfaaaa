"""The metrics endpoint of an RQ worker that no supervisor runs: a child of its preloader."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from emberq.telemetry import metrics
from emberq.telemetry.endpoint import open_endpoint, serve_endpoint
from emberq.telemetry.exposition import absorb_dead
from emberq.telemetry.logs import get_logger
from emberq.worker.frames import Frame
from emberq.worker.preloader import Child, PreloaderClient

__all__ = ["MetricsEndpoint", "serve_role"]

log = get_logger(__name__)


def serve_role(listener: socket.socket, channel: socket.socket) -> None:
    """Serve metrics in a process forked from a preloader; the signals of its parents are not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.detach()
    serve_endpoint(listener)


class MetricsEndpoint:
    """Switches metrics on as the environment says and keeps `/metrics` served.

    `EMBERQ_METRICS_DIR` names the directory that all workers of the host share; `EMBERQ_METRICS_PORT` the
    port (0 takes a free one), on `EMBERQ_HOST`. With several workers and one port one of them serves for
    all, and another takes over when it ends. Nothing is done where neither is set.
    """

    def __init__(self) -> None:
        """Read the environment; nothing is opened yet."""
        self._host = os.environ.get("EMBERQ_HOST", "127.0.0.1")
        port = os.environ.get("EMBERQ_METRICS_PORT", "")
        self._port = int(port) if port.isdigit() else None
        self._own_directory: Path | None = None
        self._child: Child | None = None

    def enable(self) -> None:
        """Switch metrics on; before the preloader starts, so that every process counts."""
        if metrics.is_enabled():
            self._port = None
            return
        if self._port is not None and not os.environ.get("EMBERQ_METRICS_DIR"):
            self._own_directory = Path(tempfile.mkdtemp(prefix="emberq-metrics-"))
            os.environ["EMBERQ_METRICS_DIR"] = str(self._own_directory)
        metrics.enable_from_environment()

    def role(self, _spec: Frame, channel: socket.socket) -> None:
        """Serve; the body of the preloader's role `metrics`."""
        try:
            listener = open_endpoint(self._host, self._port or 0)
        except OSError as exc:
            log.debug("metrics_served_by_another", port=self._port, error=exc.strerror)
            return
        log.info("metrics_served", port=listener.getsockname()[1])
        serve_role(listener, channel)

    def keep(self, preloader: PreloaderClient) -> None:
        """Make sure that the endpoint's process lives and the files of dead ones are added up."""
        metrics.sample()
        absorb_dead()
        if self._port is None:
            return
        if self._child is not None and select.select([self._child.channel], [], [], 0)[0]:
            self._child.channel.close()
            self._child = None
        if self._child is None:
            self._child = preloader.fork("metrics")

    def close(self) -> None:
        """Stop serving and delete the directory if it is this worker's own."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)
            self._child.channel.close()
            self._child = None
        if self._own_directory is not None:
            shutil.rmtree(self._own_directory, ignore_errors=True)
