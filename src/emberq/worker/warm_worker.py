"""WarmWorker: RQ's Worker with a horse that is preloaded once and runs job after job.

Every method of RQ's worker that emberq overrides, beside `__init__`; a test keeps the table true. Each is
overridden in one class only, and no order of the classes matters. Where a method serves several concerns it
is `WarmWorker`'s, and the body calls the parts in their order.

==============================  ==================  ======================================================
RQ's method                     overridden by       why
==============================  ==================  ======================================================
`work`                          WarmWorker          raises the error of a preload that failed
`bootstrap`                     WarmWorker          forks the preloader before RQ starts its thread
`subscribe`                     WarmWorker          keeps signals from the thread that RQ starts, so that
                                                    the main thread can block them
`check_for_suspension`          WarmWorker          first call: has the horse ready before a job is taken;
                                                    then asks about a suspension in one round trip
`dequeue_job_and_maintain_ttl`  WarmWorker          takes a job that is there without blocking; calls
                                                    `idle` before it blocks; requeues during a stop
`run_maintenance_tasks`         CheckedWorker       goes on despite what it cannot clean up
`handle_payload`                CheckedWorker       goes on despite a malformed command
`reorder_queues`                GracefulStopWorker  notes a delivered job: RQ calls this first
`execute_job`                   WarmWorker          checks the job's policy; requeues without a preloader
`fork_work_horse`               WarmWorker          does not fork: assigns the job to the warm horse
`monitor_work_horse`            WarmWorker          reports the horse's death in the cases where RQ does
                                                    not check for it
`wait_for_horse`                WarmWorker          reads the horse's messages; runs the watchdog
`kill_horse`                    WarmWorker          kills the horse only while it runs a job
`request_stop_execution`        WarmWorker          stops the job that the command named, even if the
                                                    next one has just begun
`maintain_heartbeats`           MonitoredWorker     a job goes on while Redis is away
`handle_work_horse_killed`      MonitoredWorker     calls `on_horse_death`
`handle_job_failure`            MonitoredWorker     adds why the horse ended; requeues on a forced stop
`handle_execution_ended`        PipelinedWorker     leaves out one heartbeat; ends forked copies of the
                                                    horse that returned from the job's function
`heartbeat`                     WarmWorker          writes the worker key and the state in one round trip,
                                                    and the heartbeat key; ends the wait during a stop
`set_state`                     PipelinedWorker     writes no state twice, and none between two jobs
`procline`                      WarmWorker          says whether the process is a worker or a horse
`request_force_stop`            MonitoredWorker     the second SIGTERM requeues the running job
`_shutdown`                     GracefulStopWorker  ends the blocking pop instead of raising in it
`unsubscribe`                   GracefulStopWorker  tells RQ's thread to end before it waits for it
`teardown`                      WarmWorker          ends the horse and the preloader, then leaves as RQ does
==============================  ==================  ======================================================
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rq.exceptions import StopRequested
from rq.suspension import WORKERS_SUSPENDED

from emberq.redis_pools import watch_redis_pool
from emberq.system.messages import Message
from emberq.system.processes import end_children_with_this_process, set_process_title
from emberq.telemetry import metrics
from emberq.telemetry.logs import ensure_logs, get_logger
from emberq.worker.horse.handle import Horse
from emberq.worker.horse.lifecycle import HorseLifecycle
from emberq.worker.horse.monitoring import MonitoredWorker
from emberq.worker.horse.role import HorseRole
from emberq.worker.horse.signals import signals_blocked
from emberq.worker.horse.watchdog import end_horse
from emberq.worker.preloader.fork_server import Role
from emberq.worker.preloader.metrics_role import MetricsEndpoint
from emberq.worker.preloader.preloader import (
    Preloader,
    PreloaderClient,
    PreloaderLost,
    PreloadFailed,
    start_preloader,
)
from emberq.worker.rq.checked_worker import CheckedWorker
from emberq.worker.rq.fewer_round_trips import PipelinedWorker
from emberq.worker.rq.graceful_stop import GracefulStopWorker
from emberq.worker.rq.heartbeat import HEARTBEAT_REFRESH_SECONDS
from emberq.worker.rq.requeue import requeue

if TYPE_CHECKING:
    from resource import struct_rusage

    from redis.client import Pipeline
    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue


log = get_logger(__name__)

#: Seconds that a horse whose socket has closed may take to be gone; the kernel needs microseconds.
_EXIT_SECONDS = 0.5
#: The wait status told to RQ for a horse that left in the middle of a job with exit code 0.
_SILENT_EXIT = os.EX_SOFTWARE << 8


class WarmWorker(MonitoredWorker, GracefulStopWorker, PipelinedWorker, CheckedWorker):
    """An RQ worker whose horse stays: resources are loaded once, before the fork.

    A drop-in for `rq.Worker` (`rq worker -w emberq.WarmWorker`): a preloader process loads what the modules
    named in `EMBERQ_PRELOAD` declare with `@resource`, and the horse is forked from it. One horse runs job
    after job; if it is killed or crashes, its job is lost by RQ's rules, and the next job finds a new horse,
    milliseconds later, with everything loaded. The module's table says which methods of RQ's worker are
    overridden, where and why.

    Attributes:
        on_ready: Called once the worker serves, its horse warm.
        with_scheduler: Whether a supervisor's slot runs RQ's scheduler as well.
        is_warming_up: Whether this is a warm-up, which writes no heartbeat key.
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
            preloader: A supervisor's preloader; the worker starts its own when left out.
            horse_spec: Sent to a supervisor's preloader with every request for a horse.
            kwargs: As for `rq.Worker`.
        """
        super().__init__(*args, **kwargs)
        ensure_logs()
        self._lifecycle = HorseLifecycle(self._start_preloader, preloader=preloader, spec=horse_spec or {})
        self._metrics = MetricsEndpoint.from_variables()
        self.on_ready: Callable[[], None] = lambda: None
        self.with_scheduler = False
        self.is_warming_up = False
        self.horse_restarts = self._lifecycle.restarts
        self._is_serving = False
        self._failure: Exception | None = None
        #: Locked while a job is assigned or stopped, so that a stop command ends the job it was meant for.
        self._assignment_lock = threading.Lock()
        #: The execution that the horse runs.
        self._execution_id: str | None = None

    # The work loop, in RQ's order.

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work as RQ does, and raise the error of a preload that failed.

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
        """Fork the preloader before RQ's pub/sub thread: a fork with threads may copy a locked lock."""
        self._metrics.enable()
        end_children_with_this_process()
        watch_redis_pool("worker", self.connection.connection_pool)
        self._lifecycle.start()
        self.forget_writes()
        super().bootstrap(*args, **kwargs)

    def subscribe(self) -> None:
        """Start RQ's thread for commands with those signals blocked whose handlers raise.

        It inherits the mask. Without it, a signal that the main thread blocks would be delivered to this
        thread, and its handler would run in the main thread all the same.
        """
        with signals_blocked():
            super().subscribe()  # type: ignore[no-untyped-call]

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Begin a round of the work loop; in the first one have the horse ready, so that no job waits for it.

        Loading may take its time only here: RQ's signal handlers and commands work by now.

        Raises:
            StopRequested: If there cannot be a horse; `work` raises the reason.
        """
        if not self._is_serving:
            self._begin_serving()
        self.enter_loop()
        self.heartbeat()
        if self.connection.exists(WORKERS_SUSPENDED):
            super().check_for_suspension(burst)

    def _begin_serving(self) -> None:
        try:
            self._lifecycle.ensure().wait_until_loaded()
        except (PreloadFailed, PreloaderLost) as exc:
            self._failure = exc
            raise StopRequested from exc
        self._is_serving = True
        metrics.set_worker_state("idle")
        self._metrics.maintain(self._lifecycle.start())
        self.on_ready()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Take a job, or wait for one; a job that comes with a request to stop is requeued.

        Raises:
            StopRequested: If the worker was told to stop.
        """
        self.begin_wait()
        try:
            take = partial(self._dequeue, timeout, max_idle_time)
            taken = self.take_despite_errors(take, self.raise_if_stopping)
        finally:
            self.end_wait()
        if taken is not None:
            self.requeue_if_stopping(*taken)
        return taken

    def _dequeue(self, timeout: int | None, max_idle_time: int | None) -> tuple[Job, Queue] | None:
        if self._is_in_loop:
            taken = super().dequeue_job_and_maintain_ttl(None)
            if taken is not None or timeout is None:
                return taken
            self.idle()
        if timeout is not None:
            # Wakes up often enough to keep the heartbeat key alive.
            timeout = min(timeout, int(HEARTBEAT_REFRESH_SECONDS))
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def idle(self) -> None:
        """Prepare for a wait: write the state `idle`, note the wait, have a horse ready for the next job.

        Called before the worker blocks in Redis, not between two jobs that are there.
        """
        self.write_state()
        self.begin_blocking()
        if self._is_serving:
            with contextlib.suppress(OSError, PreloadFailed, PreloaderLost):
                self._lifecycle.ensure_ready(self.policy)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Renew RQ's worker key, and the heartbeat key of outside monitors if it is due.

        Raises:
            StopRequested: If the worker was told to stop and the last round of its wait brought no job.
        """
        self.raise_if_stopping()
        self.repairing(partial(self.write_worker_key, timeout, pipeline))
        if not (self._is_horse or self.is_warming_up):
            self._write_heartbeat_key()
        self.follow_connection()

    def _write_heartbeat_key(self) -> None:
        """Write the heartbeat key if it is due, and maintain the metrics as often."""
        if self.write_heartbeat_key_if_due() and self._is_serving:
            self._metrics.maintain(self._lifecycle.start())

    def teardown(self) -> None:
        """End the horse and, if it is this worker's own, the preloader; then leave as RQ does."""
        if self._is_horse:
            return
        self._is_serving = False
        self._metrics.close()
        self._lifecycle.close()
        self.leave_loop()
        super().teardown()  # type: ignore[no-untyped-call]
        self.delete_heartbeat_key()

    # A job's way, in RQ's order.

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job on the warm horse; it is requeued if the preloader is gone.

        Raises:
            SystemExit: If a second SIGTERM or SIGINT came meanwhile.
        """
        if not self.begin_watch(job, queue):
            return
        try:
            with self.refusing(job, queue):
                super().execute_job(job, queue)
        except PreloaderLost:
            log.warning("preloader_lost", worker=self.name, rq_job=job.id)
            requeue(self, job, queue)
            self._horse_pid = 0
            self._lifecycle.forget_preloader()
            if self._lifecycle.is_shared:
                self._stop_requested = True
            return
        self.exit_if_forced()
        metrics.set_worker_state("idle")

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Assign the job to the warm horse. Unlike RQ's method it does not fork, unless there is no horse.

        Raises:
            PreloaderLost: If there is no horse and the preloader is gone.
        """
        execution = next(iter(self.executions.values()), None)
        with self._assignment_lock:
            try:
                self._assign(job, queue, execution)
            except OSError:
                # The horse died after it was checked; it has not seen the job, so another one may run it.
                self._lifecycle.discard("died")
                self._assign(job, queue, execution)
            metrics.set_worker_state("busy")
            self._execution_id = None if execution is None else execution.id
            if self._stopped_job_id == job.id:
                # The command came when there was no process to stop yet.
                self.kill_horse()

    def _assign(self, job: Job, queue: Queue, execution: Execution | None) -> None:
        horse = self._lifecycle.ensure_ready(self.policy)
        self._horse_pid = horse.child.pid
        horse.assign(job, queue, execution)

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Monitor the job as RQ does and report its horse's death; outside `work` no process is kept."""
        try:
            super().monitor_work_horse(job, queue, execution)
            self.report_death(job)
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
                message = horse.read()
                if message is None:
                    return self._reap(horse)
                if "done" in message:
                    with self._assignment_lock:
                        self._execution_id = None
                    return horse.child.pid, 0, None
                self._watchdog.note_progress(message)
            self._write_heartbeat_key()
            self.end_if_due(horse)

    def _reap(self, horse: Horse) -> tuple[int | None, int | None, struct_rusage | None]:
        pid = horse.child.pid
        status = self._lifecycle.exit_status(pid, timeout_seconds=_EXIT_SECONDS)
        # It may only have closed its socket, and processes that the job forked may live on in its group.
        end_horse(pid, gently=False)
        if status is None:
            status = self._lifecycle.exit_status(pid, timeout_seconds=_EXIT_SECONDS)
        status = signal.SIGKILL if status is None else status
        died_at = time.monotonic()
        death = self.note_death(status)
        self._execution_id = None
        self._lifecycle.discard(death.reason)
        if self._is_serving and not self._stop_requested:
            # The next horse is made ready now, so that the next job does not wait for it.
            with contextlib.suppress(OSError, PreloaderLost):
                self._lifecycle.ensure()
                metrics.count_recovery("horse_killed", seconds=time.monotonic() - died_at)
        # To RQ 0 would mean that the job is done.
        return pid, status or _SILENT_EXIT, None

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Kill the horse if it runs a job; may be called from any thread."""
        if self._horse_pid:
            super().kill_horse(sig)

    def request_stop_execution(self, execution_id: str) -> None:
        """Stop an execution, but not the next one if it has just ended; called in RQ's pub/sub thread."""
        with self._assignment_lock:
            if self._execution_id in (None, execution_id):
                super().request_stop_execution(execution_id)

    def procline(self, message: str) -> None:
        """Title the process as the worker or the horse that it is, with RQ's message."""
        set_process_title(f"{'horse' if self._is_horse else 'worker'} {self.name}: {message}")

    def _start_preloader(self) -> Preloader:
        modules = [name.strip() for name in os.environ.get("EMBERQ_PRELOAD", "").split(",") if name.strip()]
        roles: dict[str, Role] = {"horse": HorseRole(lambda _spec: self), "metrics": self._metrics.role}
        return start_preloader(roles, modules=modules)
