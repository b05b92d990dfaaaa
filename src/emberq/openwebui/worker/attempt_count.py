"""How often RQ has delivered a job, and whether it will again."""

from __future__ import annotations

from dataclasses import dataclass

from rq import get_current_job
from rq.job import Job

from emberq.errors import EmberqError
from emberq.openwebui.enqueue import MAX_ATTEMPTS_KEY

__all__ = ["Delivery"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a job; counted when it is made, so that a killed worker counts.

    Attributes:
        job: The job; nothing outside RQ.
        attempt: 1 for the first.
        max_attempts: After how many the file is given up.
        is_left_over: Whether the attempts are used up, and this delivery is there to write that down.
    """

    job: Job | None
    attempt: int = 1
    max_attempts: int = 1
    is_left_over: bool = False

    @classmethod
    def current(cls) -> Delivery:
        """Return the delivery that runs here."""
        job = get_current_job()
        if job is None:
            return cls(None)
        left = job.retries_left or 0
        most = job.meta.get(MAX_ATTEMPTS_KEY)
        if most is None:
            # Not enqueued by us: every delivery is an attempt, and the last one can only be told by its end.
            return cls(job, attempt=1, max_attempts=1 + left)
        attempt = int(most) - left + 1
        return cls(job, attempt=attempt, max_attempts=int(most), is_left_over=attempt > int(most))

    def goes_on_after(self, failure: EmberqError) -> bool:
        """Tell whether there will be another attempt."""
        return failure.retryable and self.attempt < self.max_attempts

    def is_last(self) -> None:
        """Tell RQ not to deliver the job again: its end is written down."""
        if self.job is not None:
            self.job.retries_left = 0
