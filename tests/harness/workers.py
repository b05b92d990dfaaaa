"""A queue, and the workers that a test starts for it: RQ's command with `WarmWorker`, or `emberq worker`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Self

from redis import Redis
from rq import Queue, Worker
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from tests.harness.eventually import LIMIT_SECONDS, came_true, eventually, scaled
from tests.harness.paths import EMBERQ, RQ, python_path
from tests.harness.processes import RunningProgram

__all__ = ["ENDED", "WorkerBench", "stop_job", "wait_for_status", "wait_for_stop_request"]

#: States in which a job stays.
ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
_SERIALIZER = ("--serializer", "rq.serializers.JSONSerializer")


def wait_for_status(job: Job, *statuses: str, seconds: float = LIMIT_SECONDS, **options: Any) -> JobStatus:
    """Wait until a job has one of these statuses, and return it; options are those of `eventually`."""
    return eventually(job.get_status, lambda status: status in statuses, seconds=seconds, **options)


def stop_job(job: Job) -> JobStatus:
    """Have a running job stopped by its worker, and return the status in which it ends."""

    def look() -> JobStatus:
        send_stop_job_command(job.connection, job.id, serializer=job.serializer)
        # A worker ignores the command in the moment before it knows its horse.
        came_true(lambda: job.get_status() in ENDED, seconds=scaled(5))
        return job.get_status()

    return eventually(look, lambda status: status in ENDED, despite=InvalidJobOperation)


def wait_for_stop_request(connection: Redis) -> None:
    """Wait until a busy worker has noted in Redis that it was told to stop."""
    eventually(lambda: [one for one in Worker.all(connection) if one.shutdown_requested_date])


def with_account(url: str, user: str, password: str) -> str:
    """Return the address of a Redis with another account in it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"


class WorkerBench:
    """A queue in Valkey whose jobs come from one module of `tests.jobs`, and workers for it.

    Attributes:
        connection: Redis.
        queue: The queue; its jobs are serialised as JSON.
        environment: Of the workers that are started next.
        directory: Where workers run; `log` in it has their output.
    """

    def __init__(self, url: str, directory: Path, *, jobs: str) -> None:
        """Describe the bench; nothing runs yet.

        Args:
            url: Of Redis.
            directory: For the log and whatever jobs write.
            jobs: Module of `tests.jobs` that the workers preload.
        """
        self.url = url
        self.directory = directory
        self.module = f"tests.jobs.{jobs}"
        self.connection = Redis.from_url(url)
        self.queue = Queue("bench", connection=self.connection, serializer=JSONSerializer)
        self.environment = {
            **os.environ,
            "EMBERQ_PRELOAD": self.module,
            "EMBERQ_REDIS_URL": url,
            "EMBERQ_LOG_FORMAT": "json",
            "PYTHONPATH": python_path(),
            "PYTHONUNBUFFERED": "1",
        }
        self._started: list[RunningProgram] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.connection.close)
            for program in self._started:
                stack.callback(program.stop)

    def rq_worker(self, *options: str, worker_class: str = "emberq.WarmWorker") -> RunningProgram:
        """Start `rq worker -w emberq.WarmWorker`; it is stopped with the bench."""
        return self.start(
            *(RQ, "worker", "-w", worker_class, "--url", self.url, *_SERIALIZER, *options, self.queue.name)
        )

    def emberq_worker(self, *options: str, slots: int = 2, prefix: tuple[str, ...] = ()) -> RunningProgram:
        """Start `emberq worker`; it is stopped with the bench."""
        return self.start(
            *(*prefix, EMBERQ, "worker", "-n", str(slots), *_SERIALIZER, *options, self.queue.name)
        )

    def start(self, *command: str) -> RunningProgram:
        """Start a program in the bench's environment; it is stopped with the bench."""
        program = RunningProgram(
            command,
            log=self.directory / "log",
            environment=self.environment,
            cwd=self.directory,
        )
        self._started.append(program)
        return program

    def burst(self, *options: str, code: int = 0, worker: str = "emberq.WarmWorker") -> str:
        """Run a worker until the queue is empty, and return what it wrote."""
        program = self.rq_worker("--burst", *options, worker_class=worker)
        assert program.wait() == code, program.printed
        return program.printed

    def enqueue(self, name: str, *args: Any, **options: Any) -> Job:
        """Enqueue a job of the bench's module."""
        return self.queue.enqueue(f"{self.module}.{name}", args=args, **options)

    def run(self, name: str, *args: Any, **options: Any) -> Job:
        """Enqueue a job, and return it when it has ended."""
        job = self.enqueue(name, *args, **options)
        wait_for_status(job, *ENDED, told=self.log)
        return job

    def answer(self, name: str, *args: Any) -> Any:
        """Run a job, and return its result; it must not fail."""
        job = self.run(name, *args)
        assert job.get_status() == JobStatus.FINISHED, job.latest_result()
        return job.return_value()

    def log(self) -> str:
        """Return the end of what the workers wrote."""
        path = self.directory / "log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""
