"""WarmWorker: RQ's Worker with a horse that is preloaded once and serves job after job."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from rq.worker import Worker

from emberq.telemetry.logs import ensure_logs, get_logger
from emberq.worker.frames import Frame
from emberq.worker.heartbeat import HEARTBEAT_REFRESH_SECONDS, beat, heartbeat_key
from emberq.worker.horse import Horse, run_horse
from emberq.worker.policy import HorsePolicy
from emberq.worker.preloader import Preloader, PreloaderClient, start_preloader

if TYPE_CHECKING:
    from resource import struct_rusage

    from rq.job import Job
    from rq.queue import Queue

__all__ = ["WarmWorker"]

log = get_logger(__name__)

#: Jobs a horse runs before it is replaced, where nothing else is set.
_HORSE_MAX_JOBS = 1000
#: Private bytes a horse may grow over its baseline, where nothing else is set.
_HORSE_MAX_MEMORY_GROWTH = 512 * 1024 * 1024


class WarmWorker(Worker):
    """An RQ worker whose horse stays: resources are loaded once, before the fork.

    A drop-in for `rq.Worker` (`rq worker -w emberq.WarmWorker`): what the modules named in
    `EMBERQ_PRELOAD` declare with `@resource` is loaded into a preloader process, from which the
    horse is forked. One horse runs job after job; if it is killed or crashes, RQ's rules for a lost
    job hold, and the next job finds a new horse, milliseconds later, with everything loaded.

    Attributes:
        horse_max_jobs: Jobs a horse runs before it is replaced.
        horse_max_memory_growth: Private bytes it may grow over its baseline before it is replaced.
    """

    policy: HorsePolicy = HorsePolicy.from_environment()
    horse_max_jobs: int = _HORSE_MAX_JOBS
    horse_max_memory_growth: int = _HORSE_MAX_MEMORY_GROWTH

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
        self._beat_at = -HEARTBEAT_REFRESH_SECONDS
        #: Called once the worker serves, its horse warm.
        self.on_ready: Callable[[], None] = lambda: None
        #: Whether a supervisor's slot runs RQ's scheduler as well.
        self.with_scheduler = False
        #: Why horses were replaced, counted by reason.
        self.horse_restarts: dict[str, int] = {}

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Start the preloader before RQ's pub/sub thread: a fork with threads may copy a held lock."""
        self._get_preloader()
        super().bootstrap(*args, **kwargs)
        self._ensure_horse()
        self.on_ready()

    def _get_preloader(self) -> PreloaderClient:
        if self._preloader is None:
            modules = [
                name.strip() for name in os.environ.get("EMBERQ_PRELOAD", "").split(",") if name.strip()
            ]
            self._preloader = start_preloader(
                {"horse": lambda _spec, channel: run_horse(self, channel)}, modules=modules
            )
        return self._preloader

    def _ensure_horse(self) -> Horse:
        if self._horse is not None and not self._horse.is_alive():
            self._discard_horse("died")
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
        """Wait for the horse's answer or its death.

        Returns:
            The horse's process id and a wait status: 0 after an answer, the real one after a death.
        """
        horse = self._horse
        if horse is None:
            return None, None, None
        while not self._answered(horse):
            self._beat()
        pid = horse.child.pid
        answer = horse.read_answer()
        if answer is None:
            status = self._get_preloader().exit_status(pid)
            self._discard_horse("killed")
            # The successor is made ready now, so that the next job does not wait for it.
            with contextlib.suppress(OSError):
                self._ensure_horse()
            return pid, status if status is not None else signal.SIGKILL, None
        self._recycle_if_due(horse, answer)
        return pid, 0, None

    def _answered(self, horse: Horse) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(horse.child.channel, selectors.EVENT_READ)
            return bool(selector.select(HEARTBEAT_REFRESH_SECONDS))

    def _recycle_if_due(self, horse: Horse, answer: Frame) -> None:
        if answer["leaked"]:
            reason = "leak"
        elif horse.jobs >= self.horse_max_jobs:
            reason = "max_jobs"
        elif horse.private_bytes - horse.baseline_bytes > self.horse_max_memory_growth:
            reason = "memory"
        else:
            return
        self._discard_horse(reason)
        self._ensure_horse()

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
        if not self._is_horse and time.monotonic() - self._beat_at > HEARTBEAT_REFRESH_SECONDS / 2:
            self._beat()

    def _beat(self) -> None:
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
            self._horse = None
        if self._owns_preloader and isinstance(self._preloader, Preloader):
            self._preloader.stop()
            self._preloader = None
        super().teardown()  # type: ignore[no-untyped-call]
        with contextlib.suppress(RedisError):
            self.connection.delete(heartbeat_key(self.name))
