"""Jobs, callbacks and classes for the tests that RQ's Worker and WarmWorker both have to pass."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import Any, NoReturn

from redis import Redis
from rq import Queue, Retry, get_current_job
from rq.job import Job

from tests.harness.eventually import LIMIT_SECONDS


class CustomJob(Job):
    """A job with a behaviour of its own."""

    def perform(self) -> Any:
        return ["custom", super().perform()]


class CustomQueue(Queue):
    """A queue of its own class."""


class SignalledQueue(Queue):
    """A queue that has SIGTERM arrive just when Redis has given a job to the worker."""

    @classmethod
    def lmove(cls, connection: Redis, queue_key: str, timeout: int | None) -> Any:
        result = super().lmove(connection, queue_key, timeout)
        if result is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        return result


def add(left: int, right: int) -> int:
    return left + right


def fail() -> NoReturn:
    msg = "as expected"
    raise ValueError(msg)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def wait_for(key: str) -> str:
    """Run until a list in Redis has something."""
    job = get_current_job()
    assert job is not None
    found: Any = job.connection.blpop(key, timeout=int(LIMIT_SECONDS))
    return str(found[1].decode())


def note(key: str, value: str) -> None:
    """Append to a list in Redis."""
    job = get_current_job()
    assert job is not None
    job.connection.rpush(key, value)


def ask_again() -> Retry | str:
    """Return a Retry the first two times."""
    job = get_current_job()
    assert job is not None
    return Retry(max=2) if job.connection.incr("asked") < 3 else "enough"


def fail_once() -> str:
    job = get_current_job()
    assert job is not None
    if job.connection.incr("tried") < 2:
        fail()
    return "second time"


def look_at_execution() -> dict[str, Any]:
    """Return what is written about this job while it runs."""
    job: Any = get_current_job()
    [execution] = job.get_executions()
    worker = job.connection.hgetall(f"rq:worker:{job.worker_name}")
    return {
        "status": job.get_status(refresh=True),
        "registered": job.id in job.started_job_registry.get_job_ids(),
        "execution_of": execution.worker_name == job.worker_name,
        "worker_state": worker[b"state"].decode(),
        "worker_executions": job.connection.scard(f"rq:worker:{job.worker_name}:executions"),
        "intermediate": job.connection.llen(f"rq:queue:{job.origin}:intermediate"),
        "job_ttl": job.connection.ttl(job.key),
        "worker_ttl_ok": 60 <= job.connection.ttl(f"rq:worker:{job.worker_name}") <= 600,
        "environment": os.environ["RQ_JOB_ID"] == job.id and bool(os.environ["RQ_WORKER_ID"]),
        "fields": sorted(field.decode() for field in job.connection.hkeys(job.key)),
    }


def leave(how: str) -> None:
    """End the process, or try to."""
    if how == "_exit":
        os._exit(3)
    if how == "_exit_0":
        os._exit(0)
    if how == "sys.exit":
        sys.exit(3)
    if how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if how == "MemoryError":
        raise MemoryError
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(30)


def fork_and_return(how: str) -> str:
    """Fork; the child returns, raises or exits like a job."""
    pid = os.fork()
    if pid == 0:
        if how == "raise":
            fail()
        if how == "exit":
            sys.exit(0)
        return "child"
    os.waitpid(pid, 0)
    return "parent"


def fork_and_stay(seconds: float) -> None:
    """Leave a process behind that keeps everything open, and die."""
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    note("stays", str(child))
    os.kill(os.getpid(), signal.SIGKILL)


def close_everything() -> str:
    os.closerange(3, 4096)
    return "closed"


def change_process() -> str:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.umask(0o777)
    with contextlib.suppress(OSError):
        os.nice(1)
    return "changed"


def process_id() -> int:
    return os.getpid()


def on_success(job: Job, connection: Redis, result: Any) -> None:
    connection.rpush("callbacks", f"success {result}")


def on_failure(job: Job, connection: Redis, kind: type, error: BaseException, trace: Any) -> None:
    connection.rpush("callbacks", f"failure {error}")


def on_stopped(job: Job, connection: Redis) -> None:
    connection.rpush("callbacks", "stopped")


class Undecodable:
    """Cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (fail, ())
