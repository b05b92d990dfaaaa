"""The number of the running attempt, from RQ's count of retries."""

from __future__ import annotations

from dataclasses import dataclass

from rq import get_current_job
from rq.job import Job

from emberq.errors import EmberqError
from emberq.openwebui.enqueue import MAX_ATTEMPTS_KEY


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """The count of attempts at a file; RQ counts each at its start, so a killed one counts.

    Attributes:
        job: The running job; None outside RQ.
        attempt: The number of this attempt, from 1.
        max_attempts: The number of attempts after which the file is given up.
        is_exhausted: Whether all attempts are used up, and this run only writes the file's final status.
    """

    job: Job | None
    attempt: int = 1
    max_attempts: int = 1
    is_exhausted: bool = False

    @classmethod
    def current(cls) -> AttemptCount:
        """Return the count for the job that runs in this process."""
        job = get_current_job()
        if job is None:
            return cls(None)
        retries_left = job.retries_left or 0
        stored = job.meta.get(MAX_ATTEMPTS_KEY)
        if stored is None:
            # Not enqueued by `enqueue_file`: there is no additional run, so each run is an attempt.
            return cls(job, attempt=1, max_attempts=1 + retries_left)
        max_attempts = int(stored)
        attempt = max_attempts - retries_left + 1
        return cls(job, attempt, max_attempts, is_exhausted=attempt > max_attempts)

    def will_retry(self, failure: EmberqError) -> bool:
        """Return whether another attempt follows a failure."""
        return failure.retryable and self.attempt < self.max_attempts

    def stop_retries(self) -> None:
        """Tell RQ not to run the job again, because the file's final status is written."""
        if self.job is not None:
            self.job.retries_left = 0
