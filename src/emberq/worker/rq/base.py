"""The base of the warm worker's parts, and all that the horse process needs of a worker."""

from __future__ import annotations

import os
from typing import Any

from rq.worker import Worker

from emberq.worker.job.policy import HorsePolicy


class HorseWorker(Worker):
    """An RQ worker that can be the worker object inside a horse.

    Attributes:
        policy: What the horse and its jobs are allowed; read from `EMBERQ_*` variables if not set.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy = HorsePolicy.from_environment()
        self._horse_process = 0

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
