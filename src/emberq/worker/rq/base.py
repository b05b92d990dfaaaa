"""The base of the warm worker's parts, and all that the horse process needs of a worker."""

from __future__ import annotations

import os
from typing import Any

from rq.queue import Queue
from rq.serializers import DefaultSerializer, resolve_serializer
from rq.utils import parse_names
from rq.worker import Worker

from emberq.worker.job.policy import HorsePolicy
from emberq.worker.rq.allow_list import AllowedPickle, AllowList
from emberq.worker.rq.checked_job import checked_job_class


class HorseWorker(Worker):
    """An RQ worker that can be the worker object inside a horse.

    Attributes:
        policy: What the horse and its jobs are allowed; read from `EMBERQ_*` variables if not set.
        allow: The functions that jobs may name; read from `EMBERQ_ALLOW`. None allows all, as RQ does.
    """

    def __init__(self, queues: Any, *args: Any, allow: AllowList | None = None, **kwargs: Any) -> None:
        self.allow = allow or AllowList.parse(os.environ.get("EMBERQ_ALLOW", ""))
        super().__init__(queues, *args, **kwargs)
        #: The job class without the checks of the allow-list.
        self.plain_job_class = self.job_class
        self.policy = HorsePolicy.from_environment()
        self._horse_process = 0
        if self.allow is not None:
            self._check_jobs(self.allow)

    def _check_jobs(self, allow: AllowList) -> None:
        """Have every job of this worker checked, wherever RQ reads one."""
        names = tuple(parse_names(self.queues))
        self.job_class = checked_job_class(self.job_class, allow, names)
        if resolve_serializer(self.serializer) is DefaultSerializer:
            # Reading a pickle calls what it names.
            self.serializer = AllowedPickle(allow)
        for queue in self.queues:
            self._adapt(queue)

    def _adapt(self, queue: Queue) -> None:
        queue.job_class = self.job_class
        if queue.serializer is DefaultSerializer:
            queue.serializer = self.serializer

    def become_horse(self) -> None:
        """Make this copy of the worker, in a process of its own, the worker object of the horse."""
        self.setup_work_horse_signals()  # type: ignore[no-untyped-call]
        self._is_horse = True
        self._horse_pid = 0
        self._horse_process = os.getpid()

    def exit_if_forked_by_job(self) -> None:
        """End a process that the job forked if it comes back here: only the horse reports an outcome."""
        if self._is_horse and os.getpid() != self._horse_process:
            os._exit(0)
