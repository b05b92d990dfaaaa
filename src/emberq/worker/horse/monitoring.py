"""Monitoring of the horse by its worker: when it has to be ended, and what becomes of its job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.handle import Horse
from emberq.worker.horse.signals import signals_blocked
from emberq.worker.horse.watchdog import REQUEUED, HorseDeath, Watchdog, end_horse
from emberq.worker.rq.base import HorseWorker
from emberq.worker.rq.requeue import requeue

if TYPE_CHECKING:
    from types import FrameType

    from rq.executions import Execution
    from rq.job import Job
    from rq.queue import Queue


log = get_logger(__name__)

#: The same signal comes twice where a terminal and a process manager both send it; RQ's own bound.
_SAME_SIGNAL = timedelta(seconds=1)


class MonitoredWorker(HorseWorker):
    """Ends a horse whose job goes beyond its policy, and reports how a job's process ended.

    Attributes:
        on_horse_death: Called with the job and the reason when a horse ended in the middle of it. With it
            set, the callback counts the job.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_horse_death: Callable[[Job, HorseDeath], None] | None = None
        self._watchdog = Watchdog(self.policy)
        self._death: HorseDeath | None = None
        self._is_forced_to_stop = False

    def begin_watch(self, job: Job, queue: Queue) -> bool:
        """Watch a job from now on; fails a job whose policy is not valid, and tells whether it may run."""
        try:
            policy = self.policy.for_job(job.meta)
        except ValueError as exc:
            execution = self.prepare_execution(job)
            self.handle_job_failure(job, queue, exc_string=str(exc), execution=execution)
            return False
        self._watchdog, self._death = Watchdog(policy), None
        return True

    def exit_if_forced(self) -> None:
        """Leave after a second SIGTERM or SIGINT.

        Raises:
            SystemExit: If there was one.
        """
        if self._is_forced_to_stop:
            raise SystemExit

    def end_if_due(self, horse: Horse) -> None:
        """End a horse whose job goes beyond its policy, or runs longer than the worker may stay."""
        if self._death is not None:
            return
        death = self._watchdog.verdict(horse.child.pid) or self._shutdown_grace_is_over()
        if death is None:
            return
        with signals_blocked():
            stacks = horse.stacks.dump(horse.child.pid) if death.reason == "stalled" else ""
            self._death = replace(death, stacks=stacks)
            log.warning(
                "horse_ended", worker=self.name, reason=death.reason, message=death.message, stacks=stacks
            )
            end_horse(horse.child.pid, gently=death.reason == "stalled")

    def _shutdown_grace_is_over(self) -> HorseDeath | None:
        asked_at = self._shutdown_requested_date
        grace_seconds = self.policy.shutdown_grace
        if asked_at is None or not grace_seconds:
            return None
        if (datetime.now(UTC) - asked_at).total_seconds() < grace_seconds:
            return None
        return REQUEUED

    def note_death(self, status: int) -> HorseDeath:
        """Return why the horse ended: the worker's reason to end it, or else what its wait status says."""
        if self._death is None:
            self._death = HorseDeath.of_status(status)
        return self._death

    def report_death(self, job: Job) -> None:
        """Report the horse's death also where RQ asks no further.

        RQ takes a job that is gone from Redis, or over, for done. It may have been flushed, or run to its end
        elsewhere from a second delivery, while this horse was in the middle of it.
        """
        self._call_back(job)
        self._death = None

    def _call_back(self, job: Job) -> None:
        if self._death is not None and self.on_horse_death is not None:
            self.on_horse_death(job, self._death)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Renew RQ's records of a running job; its horse goes on while Redis is away."""
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as exc:
            log.warning("heartbeat_failed", worker=self.name, error=str(exc))

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """Report why the horse ended, before RQ's own handler."""
        self._call_back(job)
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """Fail or retry the job as RQ does, with the reason why its horse ended; or requeue it."""
        death, self._death = self._death, None
        if death is not None and death.reason == REQUEUED.reason:
            requeue(self, job, queue)
            return
        if death is not None and self._stopped_job_id != job.id:
            exc_string = "\n".join(part for part in (exc_string, death.message, death.stacks) if part)
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)
        if death is not None and self.on_horse_death is None:
            status = job.get_status(refresh=False)
            metrics.count_rq_job(status=status.value if status else "", error_code="worker_lost")

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """On the second SIGTERM or SIGINT: requeue the running job and leave.

        Raises:
            SystemExit: If no job runs here; after a job was requeued, `exit_if_forced` raises it.
        """
        asked_at = self._shutdown_requested_date
        if asked_at is not None and datetime.now(UTC) - asked_at < _SAME_SIGNAL:
            return
        if not (self.executions and self._horse_pid) or self._death is not None:
            super().request_force_stop(signum, frame)
            return
        log.warning("stop_forced", worker=self.name)
        self._death, self._is_forced_to_stop = REQUEUED, True
        self.kill_horse()
