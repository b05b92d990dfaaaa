"""WarmWorker: RQ's Worker with a horse that is preloaded once and serves job after job."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from rq.worker import Worker

from emberq.telemetry.logs import ensure_logs, get_logger
from emberq.worker.frames import Frame, is_readable
from emberq.worker.give_back import give_back
from emberq.worker.heartbeat import HEARTBEAT_REFRESH_SECONDS, beat, heartbeat_key
from emberq.worker.horse import Horse, alarm_held_back
from emberq.worker.policy import HorsePolicy
from emberq.worker.preloader import Preloader, PreloaderClient, PreloaderLost, start_preloader
from emberq.worker.recipes import HorseRole
from emberq.worker.watchdog import GIVEN_BACK, HorseDeath, Watchdog, end_horse

if TYPE_CHECKING:
    from resource import struct_rusage
    from types import FrameType

    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue

__all__ = ["WarmWorker"]

log = get_logger(__name__)

#: Seconds between two replacements for growth; a job that always grows must not cost a horse each time.
_MEMORY_RECYCLE_SECONDS = 30.0
#: The same signal comes twice where a terminal and a process manager both send it; RQ's own bound.
_SAME_SIGNAL = timedelta(seconds=1)


class WarmWorker(Worker):
    """An RQ worker whose horse stays: resources are loaded once, before the fork.

    A drop-in for `rq.Worker` (`rq worker -w emberq.WarmWorker`): what the modules named in
    `EMBERQ_PRELOAD` declare with `@resource` is loaded into a preloader process, from which the
    horse is forked. One horse runs job after job; if it is killed or crashes, RQ's rules for a lost
    job hold, and the next job finds a new horse, milliseconds later, with everything loaded.

    Attributes:
        policy: What the horse and its jobs are allowed; read from `EMBERQ_*` variables if not set.
        on_ready: Called once the worker serves, its horse warm.
        on_horse_death: Called with the job and the reason when a horse ended in the middle of it.
        with_scheduler: Whether a supervisor's slot runs RQ's scheduler as well.
        horse_restarts: Why horses were replaced, counted by reason.
    """

    def __init__(
        self,
        *args: Any,
        preloader: PreloaderClient | None = None,
        horse_spec: Frame | None = None,
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
        self._preloader = preloader
        self._owns_preloader = preloader is None
        self._horse_spec = horse_spec or {}
        self._horse: Horse | None = None
        self._successor: Horse | None = None
        self._beat_at = -HEARTBEAT_REFRESH_SECONDS
        self.policy = HorsePolicy.from_environment()
        self.on_ready: Callable[[], None] = lambda: None
        self.on_horse_death: Callable[[Job, HorseDeath], None] | None = None
        self.with_scheduler = False
        self.horse_restarts: dict[str, int] = {}
        self._watchdog = Watchdog(self.policy)
        self._death: HorseDeath | None = None
        self._memory_recycled_at = -_MEMORY_RECYCLE_SECONDS

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Start the preloader before RQ's pub/sub thread: a fork with threads may copy a held lock."""
        self._get_preloader()
        self._ensure_horse().wait_until_loaded()
        super().bootstrap(*args, **kwargs)
        self.on_ready()

    def _get_preloader(self) -> PreloaderClient:
        if self._preloader is None:
            modules = [
                name.strip() for name in os.environ.get("EMBERQ_PRELOAD", "").split(",") if name.strip()
            ]
            self._preloader = start_preloader({"horse": HorseRole(lambda _spec: self)}, modules=modules)
        return self._preloader

    def _ensure_horse(self) -> Horse:
        if self._horse is not None and not self._horse.is_alive():
            self._discard_horse("died")
        if self._horse is None and self._successor is not None and self._successor.is_alive():
            self._horse, self._successor = self._successor, None
        if self._horse is None:
            self._horse = Horse.fork(self._get_preloader(), self._horse_spec)
            log.debug("horse_forked", worker=self.name, horse_pid=self._horse.child.pid)
        return self._horse

    def _discard_horse(self, reason: str) -> None:
        if self._horse is None:
            return
        self.horse_restarts[reason] = self.horse_restarts.get(reason, 0) + 1
        self._horse.retire()
        log.info("horse_replaced", worker=self.name, reason=reason, jobs=self._horse.jobs)
        self._horse = None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job on the warm horse; it goes back to its queue if nothing can run it here."""
        try:
            policy = self.policy.for_job(job.meta)
        except ValueError as exc:
            execution = self.prepare_execution(job)
            self.handle_job_failure(job, queue, exc_string=str(exc), execution=execution)
            return
        self._watchdog, self._death = Watchdog(policy), None
        try:
            super().execute_job(job, queue)
        except PreloaderLost:
            log.warning("preloader_lost", worker=self.name, rq_job=job.id)
            give_back(self, job, queue)
            self._horse = self._successor = None
            if self._owns_preloader:
                self._preloader = None
            else:
                self._stop_requested = True

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Hand the job to the living horse, forking one first if there is none."""
        execution = self.execution
        if execution is None:
            msg = f"The job {job.id} has no execution."
            raise RuntimeError(msg)
        horse = self._ensure_horse()
        self._horse_pid = horse.child.pid
        try:
            horse.hand_over(job, queue, execution)
        except OSError:
            # It died since it was looked at; it has not seen the job, so another one may have it.
            self._discard_horse("died")
            horse = self._ensure_horse()
            self._horse_pid = horse.child.pid
            horse.hand_over(job, queue, execution)
        self.procline(f"Horse {self._horse_pid} runs {job.id}")  # type: ignore[no-untyped-call]

    def wait_for_horse(self) -> tuple[int | None, int | None, struct_rusage | None]:
        """Wait for the horse's answer or its death, and end it if the job goes beyond its policy.

        Returns:
            The horse's process id and a wait status: 0 after an answer, the real one after a death.
        """
        horse = self._horse
        if horse is None:
            return None, None, None
        while True:
            if is_readable(horse.child.channel, self._watchdog.wait_seconds(HEARTBEAT_REFRESH_SECONDS)):
                frame = horse.read()
                if frame is None:
                    return self._note_death(horse)
                if "done" in frame:
                    self._recycle_if_due(horse, frame)
                    return horse.child.pid, 0, None
                self._watchdog.note(frame)
            self._beat_if_due()
            if self._death is None:
                self._end_if_due(horse)

    def _end_if_due(self, horse: Horse) -> None:
        death = self._watchdog.verdict(horse.child.pid) or self._grace_is_over()
        if death is None:
            return
        with alarm_held_back():
            stacks = horse.stacks.dump(horse.child.pid) if death.reason == "stalled" else ""
            self._death = replace(death, stacks=stacks)
            log.warning(
                "horse_ended", worker=self.name, reason=death.reason, message=death.message, stacks=stacks
            )
            end_horse(horse.child.pid, gently=death.reason == "stalled")

    def _grace_is_over(self) -> HorseDeath | None:
        asked_at = self._shutdown_requested_date
        grace_seconds = self.policy.shutdown_grace
        if asked_at is None or not grace_seconds:
            return None
        if (datetime.now(UTC) - asked_at).total_seconds() < grace_seconds:
            return None
        return GIVEN_BACK

    def _note_death(self, horse: Horse) -> tuple[int | None, int | None, struct_rusage | None]:
        pid = horse.child.pid
        status: int | None = signal.SIGKILL
        with contextlib.suppress(PreloaderLost):
            status = self._get_preloader().exit_status(pid) or status
        # What the job forked may live on in the horse's group.
        end_horse(pid, gently=False)
        if self._death is None:
            self._death = HorseDeath.of_status(status or signal.SIGKILL)
        self._discard_horse(self._death.reason)
        if not self._stop_requested:
            # The successor is made ready now, so that the next job does not wait for it.
            with contextlib.suppress(OSError, PreloaderLost):
                self._ensure_horse()
        return pid, status, None

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """Tell why the horse ended, to whoever wants to know, before RQ's own handler."""
        if self._death is not None and self.on_horse_death is not None:
            self.on_horse_death(job, self._death)
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """Fail or retry the job as RQ does, with what is known of its horse's end; or give it back."""
        death, self._death = self._death, None
        if death is not None and death.reason == "given_back":
            give_back(self, job, queue)
            return
        if death is not None and self._stopped_job_id != job.id:
            exc_string = f"{death.message}\n{death.stacks}".strip()
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """On the second SIGTERM or SIGINT: give the running job back to its queue and leave.

        Raises:
            SystemExit: If no job runs here.
        """
        asked_at = self._shutdown_requested_date
        if asked_at is not None and datetime.now(UTC) - asked_at < _SAME_SIGNAL:
            return
        if self._horse is None or not self._horse_pid or self._death is not None:
            super().request_force_stop(signum, frame)
            return
        log.warning("job_given_back", worker=self.name)
        self._death = GIVEN_BACK
        self.kill_horse()

    def _recycle_if_due(self, horse: Horse, answer: Frame) -> None:
        now = time.monotonic()
        if answer["leaked"]:
            reason = "leak"
        elif horse.jobs >= self.policy.horse_max_jobs:
            reason = "max_jobs"
        elif (
            horse.grown_bytes() > self.policy.horse_max_memory_growth
            and now - self._memory_recycled_at > _MEMORY_RECYCLE_SECONDS
        ):
            reason, self._memory_recycled_at = "memory", now
        else:
            return
        # The successor is warm before the old horse leaves.
        if self._successor is None or not self._successor.is_alive():
            self._successor = Horse.fork(self._get_preloader(), self._horse_spec)
        if reason != "leak" and not self._successor.is_loaded:
            # A spawned one takes its time; the old one may serve on meanwhile.
            return
        self._discard_horse(reason)
        self._horse, self._successor = self._successor, None

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job, waking up often enough to keep the heartbeat key alive."""
        if timeout is not None:
            timeout = min(timeout, int(HEARTBEAT_REFRESH_SECONDS))
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Renew RQ's own lease of the worker and the heartbeat key of the contract."""
        super().heartbeat(timeout, pipeline)
        # RQ renews its lease several times a job; one beat in a while is enough for the key.
        if not self._is_horse:
            self._beat_if_due()

    def _beat_if_due(self) -> None:
        if time.monotonic() - self._beat_at < HEARTBEAT_REFRESH_SECONDS / 2:
            return
        self._beat_at = time.monotonic()
        try:
            beat(self.connection, self.name)
        except RedisError as exc:
            # The job goes on; Redis is only the bell.
            log.warning("heartbeat_failed", worker=self.name, error=str(exc))

    def teardown(self) -> None:
        """End the horse and, if it is this worker's own, the preloader; then leave as RQ does."""
        if self._is_horse:
            return
        if self._horse is not None:
            self._horse.retire()
            with contextlib.suppress(PreloaderLost, OSError):
                # It closes what it opened; whoever ends with it would be killed over that.
                self._get_preloader().exit_status(self._horse.child.pid)
            self._horse = None
        if self._successor is not None:
            self._successor.retire()
            self._successor = None
        if self._owns_preloader and isinstance(self._preloader, Preloader):
            self._preloader.stop()
            self._preloader = None
        super().teardown()  # type: ignore[no-untyped-call]
        with contextlib.suppress(RedisError):
            self.connection.delete(heartbeat_key(self.name))
