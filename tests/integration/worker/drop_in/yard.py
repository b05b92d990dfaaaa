"""A queue, its workers, and what the tests of both worker classes ask."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from rq import Queue, Worker
from rq.job import Job

from tests.harness.eventually import LIMIT_SECONDS, eventually

__all__ = ["Yard", "exc_string"]


class Yard:
    """A queue in an empty Valkey and workers of one class for it."""

    def __init__(self, url: str, worker_class: type[Worker]) -> None:
        self.connection: Any = Redis.from_url(url)
        self.worker_class = worker_class
        self.queue = Queue("yard", connection=self.connection)

    def worker(self, *queues: Queue, **options: Any) -> Worker:
        return self.worker_class(list(queues) or [self.queue], connection=self.connection, **options)

    def burst(self, worker: Worker | None = None, **options: Any) -> Worker:
        worker = worker or self.worker()
        worker.work(burst=True, logging_level="ERROR", **options)
        return worker

    def serve(
        self, *meanwhile: Callable[[Worker], object], worker: Worker | None = None, **options: Any
    ) -> Worker:
        """Work without burst while another thread does something; it must make the worker stop."""
        serving = worker or self.worker()
        failures: list[BaseException] = []

        def act() -> None:
            try:
                for step in meanwhile:
                    step(serving)
            except BaseException as exc:  # noqa: BLE001 - raised again in the main thread
                failures.append(exc)
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        try:
            serving.work(logging_level="ERROR", **options)
        finally:
            thread.join(LIMIT_SECONDS)
        if failures:
            raise failures[0]
        return serving

    def stop_at_once(self, worker: Worker) -> None:
        """Have this process, in which the worker runs, get two signals as from an impatient user."""
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: worker.shutdown_requested_date)
        # RQ takes a second signal within a second for the first one's echo.
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGTERM)

    def wait_until_a_worker_waits(self) -> None:
        """Wait until Redis has a worker in a blocking command."""
        eventually(lambda: self.connection.info("clients")["blocked_clients"])

    def words(self, key: str) -> list[str]:
        return [value.decode() for value in self.connection.lrange(key, 0, -1)]

    def callbacks(self) -> list[str]:
        return self.words("callbacks")


def exc_string(job: Job) -> str:
    result = job.latest_result()
    assert result is not None
    return result.exc_string or ""
