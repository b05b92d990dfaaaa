"""A worker that survives any content of Redis: what cannot be used is refused, and the work goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import ResponseError
from rq.utils import now

from emberq.telemetry.logs import get_logger
from emberq.worker.rq.allow_list import shown
from emberq.worker.rq.base import HorseWorker
from emberq.worker.rq.checked_job import JobRefused, refuse
from emberq.worker.rq.repair import delete_mistyped

if TYPE_CHECKING:
    from rq.job import Job
    from rq.queue import Queue

T = TypeVar("T")

log = get_logger(__name__)

#: Seconds between two attempts to read a queue that Redis refuses to read.
_PAUSE_SECONDS = 1.0
#: What RQ's worker raises where a key or a field is not as it wrote it.
_BROKEN = (ResponseError, ValueError, TypeError, OverflowError, AssertionError)


class CheckedWorker(HorseWorker):
    """Goes on where content of Redis would end RQ's worker, if it has an allow-list.

    Attributes:
        commands: The commands of RQ's channel that the worker obeys; all of them if None.
    """

    commands: frozenset[str] | None = None
    _is_queue_broken = False

    def handle_payload(self, message: Any) -> None:
        """Obey a command; a malformed or refused one is logged, and RQ's thread goes on."""
        try:
            command = json.loads(message["data"])["command"]
            if self.commands is None or command in self.commands:
                super().handle_payload(message)  # type: ignore[no-untyped-call]
                return
            reason = f"{shown(command)} is not allowed"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            reason = type(exc).__name__
        log.warning("command_refused", worker=self.name, error=reason)

    def run_maintenance_tasks(self) -> None:
        """Run RQ's maintenance; what it cannot clean up does not end the worker."""
        if self.allow is None:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
            return
        try:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except _BROKEN as exc:
            self.last_cleaned_at = now()  # type: ignore[assignment]
            log.warning(
                "rq_maintenance_failed", worker=self.name, error=shown(f"{type(exc).__name__}: {exc}")
            )

    def take_despite_errors(self, take: Callable[[], T], raise_if_stopping: Callable[[], None]) -> T:
        """Take a job; while Redis refuses to read the queue, try again every second.

        Raises:
            StopRequested: If the worker was told to stop meanwhile.
        """
        while True:
            try:
                taken = take()
            except (ResponseError, UnicodeDecodeError) as exc:
                if self.allow is None:
                    raise
                raise_if_stopping()
                if isinstance(exc, UnicodeDecodeError):
                    self._drop_unreadable_ids()
                    continue
                self._log_broken_queue(exc)
                time.sleep(_PAUSE_SECONDS)
            else:
                self._is_queue_broken = False
                return taken

    def _log_broken_queue(self, exc: ResponseError) -> None:
        if not self._is_queue_broken:
            log.error("queue_broken", worker=self.name, error=shown(str(exc)))
        self._is_queue_broken = True

    def _drop_unreadable_ids(self) -> None:
        """Delete the ids from the intermediate queue that are not text: a job with such an id cannot be."""
        for queue in self.queues:
            found: Any = self.connection.lrange(queue.intermediate_queue_key, 0, -1)
            for job_id in found:
                try:
                    job_id.decode()
                except UnicodeDecodeError:
                    self.connection.lrem(queue.intermediate_queue_key, 0, job_id)
                    log.warning("job_refused", rq_job=shown(job_id), queue=queue.name, reason="fields")

    def repairing(self, write: Callable[[], None]) -> None:
        """Write to the worker's own keys; a key of another type is deleted first."""
        try:
            write()
        except ResponseError:
            if not self._repair_own_keys():
                raise
            write()

    def _repair_own_keys(self) -> bool:
        """Delete the worker's own keys that are of another type; tells whether there were any."""
        return bool(delete_mistyped(self.connection, {self.key: "hash", self.executions_key: "set"}))

    @contextlib.contextmanager
    def refusing(self, job: Job, queue: Queue) -> Iterator[None]:
        """Refuse a job whose own keys or fields make the block fail."""
        try:
            yield
        except _BROKEN as exc:
            if self.allow is None:
                raise
            if self._horse_pid:
                self.kill_horse()
                self._horse_pid = 0
            self.executions.clear()
            reason = "keys" if isinstance(exc, ResponseError) else "fields"
            refusal = JobRefused(reason, f"{type(exc).__name__}: {exc}")
            refuse(job.id, refusal, connection=self.connection, queue=queue.name)
            # If it was not a key of the job, the next one would be refused for the same reason.
            self._repair_own_keys()
