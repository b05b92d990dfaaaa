"""The stage of a round: a real API, a host with one worker, a maintenance process; each may be killed.

All of them are forked from this process, which has imported everything and loaded the model, so that a
killed one stands again in a fraction of a second, as its supervisor or init system would see to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from redis import Redis
from sqlalchemy import text

from emberq.api import auth
from emberq.api.app import make_app, open_listener
from emberq.config.current import get_worker_config
from emberq.config.environment import Environment
from emberq.dispatch.admit import admit
from emberq.dispatch.host import run_host
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.recover import reap_expired_hosts, sweep
from emberq.dispatch.tickets import open_queue
from emberq.entry_points import QUEUE_NAME
from emberq.errors import EmberqError
from emberq.pipeline.resources import get_embedder
from emberq.retry import operation
from emberq.retry.backoff import Backoff
from emberq.store.admin.api_keys import create_key
from emberq.store.services import configure_services
from emberq.system.forks import after_fork
from emberq.system.processes import descendants, die_with_parent, process_state
from emberq.telemetry.logs import configure_logs
from emberq.testing.faults import FaultPoints
from emberq.worker.warm_worker import WarmWorker
from tests.harness.eventually import came_true

__all__ = ["PROCESSES", "Stage", "wait_until"]

#: The processes whose operations are counted.
PROCESSES = ("api", "slot", "horse", "maintenance")
#: Threads whose work goes by the clock, so that it would be counted differently every time.
_CLOCKED_THREADS = ("emberq-config", "emberq-maintenance")
#: More processes than a host with one slot has.
_FAMILY = 100
#: Pauses before a transaction or command is tried again; each fault comes once, so nothing needs time.
_BACKOFF = Backoff(first_seconds=0.001, longest_seconds=0.01)


class Stage:
    """Everything one shard plays on: a database, a Redis, a blob store and the processes around them.

    Invariant: this process has one thread, and what it forks does not use its connections.
    """

    def __init__(self, directory: Path, *, database_url: str, redis_url: str) -> None:
        """Open the stage; nothing is started yet."""
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log"
        configure_logs(log_format="json", level="info")
        environment = Environment(data_dir=directory, workers=1)
        self.services = configure_services(environment, database_url=database_url, redis_url=redis_url)
        self.blobs = self.services.blobs.root
        self.points = FaultPoints(
            PROCESSES, trace=directory / "trace", directory=self.blobs, ignored_threads=_CLOCKED_THREADS
        )
        # Every request looks its key up, whatever the time since the last one.
        auth._TRUST_SECONDS = 0.0
        operation._BACKOFF = _BACKOFF
        settings = get_worker_config().settings
        self.embedding_model = settings.rag_embedding_model
        get_embedder(self.embedding_model)
        with self.services.database.system_transaction() as connection:
            self.key = create_key(connection, name="nth", scopes=["admin"])
        self._listener = open_listener("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._app = make_app(maintenance=False)
        self.api = self.host = 0
        #: Whether there is to be a host at the moment.
        self.wants_host = True
        self.points.install()
        after_fork(lambda: self.points.become("horse"))
        _say_when_slot(self.points)

    def redis(self) -> Redis:
        return self.services.redis()

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Run one statement in a transaction of its own and return its rows, if it has some."""
        with self.services.database.system_transaction() as connection:
            done = connection.execute(text(statement), parameters)
            return list(done) if done.returns_rows else []

    def http(self) -> httpx.Client:
        """Return a client with a connection of its own."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False)

    def ensure(self) -> None:
        """Start whatever does not run, as an init system would."""
        if not _is_running(self.api):
            self.api = self._start(self._run_api)
        if self.wants_host and not _is_running(self.host):
            self.host = self._start(self._run_host)

    def end_host(self) -> None:
        """Kill the host with everything on it, and let its lease be over."""
        if _is_running(self.host):
            family = [self.host, *descendants(self.host, most=_FAMILY)]
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(self.host, 0)
            # A slot that outlived its supervisor would still take a ticket.
            wait_until(
                lambda: all(process_state(pid) in ("", "Z") for pid in family),
                seconds=10,
                meanwhile=lambda: None,
            )
        self.host = 0
        self.expire_leases()

    def end_api(self) -> None:
        """Kill the API."""
        if _is_running(self.api):
            os.kill(self.api, signal.SIGKILL)
            os.waitpid(self.api, 0)
        self.api = 0

    def close(self) -> None:
        """Kill everything."""
        self.end_api()
        self.end_host()
        self._listener.close()
        self.services.database.close()

    def maintain_once(self) -> bool:
        """Run the duties of maintenance once, in a process of its own; tell whether it came to its end."""
        pid = self._fork(self._run_maintenance)
        return os.waitpid(pid, 0)[1] == 0

    def hasten(self) -> None:
        """Let time pass where only time is waited for, and run the duties of maintenance meanwhile."""
        self.sql("UPDATE jobs SET not_before = now() WHERE state = 'pending' AND not_before > now()")
        self.sql("UPDATE jobs SET queued_at = queued_at - interval '6 seconds' WHERE state = 'queued'")
        self.sql("UPDATE breakers SET retry_at = now() WHERE retry_at > now()")
        with contextlib.suppress(EmberqError):
            reap_expired_hosts(self.services, retry_delay_seconds=0.0)
            admit(self.services, job_timeout_seconds=60)
            sweep(self.services, job_timeout_seconds=60)

    def expire_leases(self) -> None:
        """End every host's lease now."""
        self.sql("UPDATE hosts SET lease_until = now() - interval '1 second'")

    def queue_lengths(self) -> tuple[int, int]:
        """Return how many tickets wait, and how many were popped and not begun."""
        queue, redis = open_queue(self.redis()), self.redis()
        return redis.llen(queue.key), redis.llen(queue.intermediate_queue_key)

    def forget_tickets(self) -> None:
        """Lose every ticket, as a Redis without persistence would in a restart."""
        redis = self.redis()
        names = [f"rq:queue:{QUEUE_NAME}", f"rq:queue:{QUEUE_NAME}:intermediate", f"rq:wip:{QUEUE_NAME}"]
        redis.delete(*names, *redis.keys("rq:job:*"))

    def _start(self, body: Callable[[Callable[[], None]], None]) -> int:
        read, write = os.pipe()

        def run() -> None:
            def ready() -> None:
                os.write(write, b"1")

            os.close(read)
            body(ready)

        pid = self._fork(run)
        os.close(write)
        with os.fdopen(read, "rb") as ready:
            if not ready.read(1):
                raise RuntimeError(f"A process did not start; see {self.log}")
        return pid

    def _fork(self, body: Callable[[], None]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            die_with_parent(parent)
            log = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            self.services.database.after_fork()
            body()
            code = 0
        except BaseException as exc:  # noqa: BLE001 - a fork never returns into what it was forked from
            sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        finally:
            os._exit(code)

    def _run_api(self, ready: Callable[[], None]) -> None:
        self.points.become("api")
        config = uvicorn.Config(self._app, log_config=None, access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        ready()
        server.run(sockets=[self._listener])

    def _run_host(self, ready: Callable[[], None]) -> None:
        run_host(self.services, slots=1, ready=ready)

    def _run_maintenance(self) -> None:
        self.points.become("maintenance")
        Maintenance(self.services).tick()


def _say_when_slot(points: FaultPoints) -> None:
    """Have every process that begins to work as an RQ worker count as the slot."""
    work = WarmWorker.work

    def work_as_slot(worker: WarmWorker, *args: Any, **kwargs: Any) -> bool:
        points.become("slot")
        return work(worker, *args, **kwargs)

    WarmWorker.work = work_as_slot  # type: ignore[assignment, method-assign]


def _is_running(pid: int) -> bool:
    if not pid:
        return False
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def wait_until(condition: Callable[[], bool], *, seconds: float, meanwhile: Callable[[], None]) -> bool:
    """Wait for a condition, doing something else three times a second; tells whether it came true."""
    next_at = time.monotonic() + 0.4

    def look() -> bool:
        nonlocal next_at
        is_met = condition()
        if not is_met and time.monotonic() > next_at:
            meanwhile()
            next_at = time.monotonic() + 0.3
        return is_met

    return came_true(look, seconds=seconds)
