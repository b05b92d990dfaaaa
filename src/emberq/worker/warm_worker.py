"""WarmWorker: RQ's Worker with a horse that is preloaded once and serves job after job."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rq.exceptions import StopRequested

from emberq.redis_pools import watch_redis_pool
from emberq.system.messages import Message
from emberq.telemetry import metrics
from emberq.telemetry.logs import ensure_logs, get_logger
from emberq.worker.horse.handle import Horse
from emberq.worker.horse.lifecycle import HorseLifecycle
from emberq.worker.horse.monitoring import MonitoredWorker
from emberq.worker.horse.role import HorseRole
from emberq.worker.horse.watchdog import end_horse
from emberq.worker.preloader.metrics_role import MetricsEndpoint
from emberq.worker.preloader.preloader import (
    Preloader,
    PreloaderClient,
    PreloaderLost,
    PreloadFailed,
    Role,
    begin_preloader,
)
from emberq.worker.rq.graceful_stop import GracefulStopWorker
from emberq.worker.rq.heartbeat import HEARTBEAT_REFRESH_SECONDS
from emberq.worker.rq.requeue import requeue

if TYPE_CHECKING:
    from resource import struct_rusage

    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue

__all__ = ["WarmWorker"]

log = get_logger(__name__)

#: Seconds that a horse whose socket has closed may take to be gone; the kernel needs microseconds.
_EXIT_SECONDS = 0.5
#: The wait status told to RQ for a horse that left in the middle of a job with exit code 0.
_SILENT_EXIT = os.EX_SOFTWARE << 8


class WarmWorker(MonitoredWorker, GracefulStopWorker):
    """An RQ worker whose horse stays: resources are loaded once, before the fork.

    A drop-in for `rq.Worker` (`rq worker -w emberq.WarmWorker`): what the modules named in
    `EMBERQ_PRELOAD` declare with `@resource` is loaded into a preloader process, from which the
    horse is forked. One horse runs job after job; if it is killed or crashes, RQ's rules for a lost
    job hold, and the next job finds a new horse, milliseconds later, with everything loaded.

    Attributes:
        on_ready: Called once the worker serves, its horse warm.
        with_scheduler: Whether a supervisor's slot runs RQ's scheduler as well.
        horse_restarts: Why horses were replaced, counted by reason.
    """

    def __init__(
        self,
        *args: Any,
        preloader: PreloaderClient | None = None,
        horse_spec: Message | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a worker; takes everything `rq.Worker` takes.

        Args:
            args: As for `rq.Worker`.
            preloader: One to share; the worker starts its own when left out.
            horse_spec: Sent to a shared preloader with every request for a horse.
            kwargs: As for `rq.Worker`.
        """
        super().__init__(*args, **kwargs)
        ensure_logs()
        self._lifecycle = HorseLifecycle(self._begin_preloader, preloader=preloader, spec=horse_spec or {})
        self._metrics = MetricsEndpoint.from_variables()
        self.on_ready: Callable[[], None] = lambda: None
        self.with_scheduler = False
        self.horse_restarts = self._lifecycle.restarts
        self._is_serving = False
        self._failure: Exception | None = None
        #: Held while a job is handed over or stopped, so that a stop command hits the job it was meant for.
        self._handing_over = threading.Lock()
        #: The execution that the horse runs.
        self._execution_id: str | None = None

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work as RQ does.

        Returns:
            Whether any job was run.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
            PreloaderLost: If the preloader died before the first job.
        """
        self._failure = None
        worked: bool = super().work(*args, **kwargs)
        if self._failure is not None:
            raise self._failure
        return worked

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Fork the preloader before RQ's pub/sub thread: a fork with threads may copy a held lock."""
        self._metrics.enable()
        self._lifecycle.open()
        super().bootstrap(*args, **kwargs)
        watch_redis_pool("worker", self.connection.connection_pool)

    def _begin_preloader(self) -> Preloader:
        modules = [name.strip() for name in os.environ.get("EMBERQ_PRELOAD", "").split(",") if name.strip()]
        roles: dict[str, Role] = {"horse": HorseRole(lambda _spec: self), "metrics": self._metrics.role}
        return begin_preloader(roles, modules=modules)

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Begin a round of the work loop; in the first one have the horse ready, so that no job waits for it.

        Only here may loading take its time: RQ's signal handlers and commands work by now.

        Raises:
            StopRequested: If there cannot be a horse; `work` tells why.
        """
        if not self._is_serving:
            try:
                self._lifecycle.ensure().wait_until_loaded()
            except (PreloadFailed, PreloaderLost) as exc:
                self._failure = exc
                raise StopRequested from exc
            self._is_serving = True
            metrics.worker_is("idle")
            self._metrics.keep(self._lifecycle.open())
            self.on_ready()
        super().check_for_suspension(burst)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job on the warm horse; it goes back to its queue if nothing can run it here."""
        try:
            super().execute_job(job, queue)
            metrics.worker_is("idle")
        except PreloaderLost:
            log.warning("preloader_lost", worker=self.name, rq_job=job.id)
            requeue(self, job, queue)
            self._horse_pid = 0
            self._lifecycle.forget_preloader()
            if self._lifecycle.is_shared:
                self._stop_requested = True

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Hand the job to the living horse, forking one first if there is none.

        Raises:
            PreloaderLost: If there is none and the preloader is gone.
        """
        execution = next(iter(self.executions.values()), None)
        with self._handing_over:
            try:
                self._hand_over(job, queue, execution)
            except OSError:
                # It died since it was looked at; it has not seen the job, so another one may have it.
                self._lifecycle.discard("died")
                self._hand_over(job, queue, execution)
            metrics.worker_is("busy")
            self._execution_id = None if execution is None else execution.id
            if self._stopped_job_id == job.id:
                # The command came when there was no process to stop yet.
                self.kill_horse()

    def _hand_over(self, job: Job, queue: Queue, execution: Execution | None) -> None:
        horse = self._lifecycle.ensure_ready(self.policy)
        self._horse_pid = horse.child.pid
        horse.hand_over(job, queue, execution)

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Watch over the job as RQ does; outside `work` nothing outlives it."""
        try:
            super().monitor_work_horse(job, queue, execution)
        finally:
            if not self._is_serving:
                # The next call may come after changes that only a new fork sees.
                self._lifecycle.close()

    def wait_for_horse(self) -> tuple[int | None, int | None, struct_rusage | None]:
        """Wait for the horse's answer or its death, and end it if the job goes beyond its policy.

        Returns:
            The horse's process id and a wait status: 0 after an answer, the real one after a death.
        """
        horse = self._lifecycle.horse
        if horse is None or not self._horse_pid:
            return None, None, None
        while True:
            if horse.wait(self._watchdog.wait_seconds(HEARTBEAT_REFRESH_SECONDS)):
                frame = horse.read()
                if frame is None:
                    return self._reap(horse)
                if "done" in frame:
                    with self._handing_over:
                        self._execution_id = None
                    return horse.child.pid, 0, None
                self._watchdog.note(frame)
            self.beat_if_due()
            self.end_if_due(horse)

    def idle(self) -> None:
        """See to the horse before the worker waits, so that the next job finds a fresh one if it has to."""
        super().idle()
        if self._is_serving:
            with contextlib.suppress(OSError, PreloadFailed, PreloaderLost):
                self._lifecycle.ensure_ready(self.policy)

    def beat_if_due(self) -> None:
        """Write the heartbeat key if it is due and see to the metrics as often."""
        before = self._beat_at
        super().beat_if_due()
        if self._beat_at != before and self._is_serving:
            self._metrics.keep(self._lifecycle.open())

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Kill the horse if it runs a job; may be called from any thread."""
        if self._horse_pid:
            super().kill_horse(sig)

    def request_stop_execution(self, execution_id: str) -> None:
        """Stop an execution, but not the next one if it has just ended; comes from the pub/sub thread."""
        with self._handing_over:
            if self._execution_id in (None, execution_id):
                super().request_stop_execution(execution_id)

    def _reap(self, horse: Horse) -> tuple[int | None, int | None, struct_rusage | None]:
        pid = horse.child.pid
        status = self._lifecycle.exit_status(pid, timeout_seconds=_EXIT_SECONDS)
        # It may only have closed its socket, and what the job forked may live on in its group.
        end_horse(pid, gently=False)
        if status is None:
            status = self._lifecycle.exit_status(pid, timeout_seconds=_EXIT_SECONDS)
        status = signal.SIGKILL if status is None else status
        died_at = time.monotonic()
        death = self.note_death(status)
        self._execution_id = None
        self._lifecycle.discard(death.reason)
        if self._is_serving and not self._stop_requested:
            # The successor is made ready now, so that the next job does not wait for it.
            with contextlib.suppress(OSError, PreloaderLost):
                self._lifecycle.ensure()
                metrics.recovered("horse_killed", seconds=time.monotonic() - died_at)
        # To RQ 0 would mean that the job is done.
        return pid, status or _SILENT_EXIT, None

    def teardown(self) -> None:
        """End the horse and, if it is this worker's own, the preloader; then leave as RQ does."""
        if self._is_horse:
            return
        self._is_serving = False
        self._metrics.close()
        self._lifecycle.close()
        super().teardown()
