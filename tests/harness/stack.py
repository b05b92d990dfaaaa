"""`emberq up` as a process, used over HTTP and the command line."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from sqlalchemy import text

from emberq.embedded import Engines
from emberq.store.database import Database
from tests.harness.eventually import LIMIT_SECONDS, eventually, scaled
from tests.harness.paths import EMBERQ
from tests.harness.processes import RunningProgram, run_program

__all__ = ["Stack", "nothing_stored"]

#: Seconds the first start may take: it makes a database cluster and loads a model.
_START_SECONDS = scaled(300.0)
#: Seconds a request may take before the client gives up.
_REQUEST_SECONDS = scaled(120.0)
_ENDED = ("completed", "failed", "cancelled")


@contextmanager
def nothing_stored(database: Database) -> Iterator[None]:
    """Let no job of a file complete in this block, however late the test acts."""
    with database.system_transaction() as connection:
        connection.execute(text("LOCK TABLE chunks IN SHARE ROW EXCLUSIVE MODE"))
        yield


class Stack:
    """One `emberq up` on a data directory; it can be stopped, killed and started again.

    Attributes:
        key: The first API key, which the first start writes into the data directory.
        url: Where the API listens.
        printed: What the last start printed.
        environment: Of the next start.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        port: int = 0,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Describe it; nothing runs yet."""
        self.data_dir = data_dir
        self.port = port
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.workers = workers
        self.environment = {**os.environ, "EMBERQ_LOG_FORMAT": "json", **(environment or {})}
        self.key = ""
        self.url = ""
        self._program: RunningProgram | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        arguments = ["--data-dir", str(self.data_dir), "--port", str(self.port), "-n", str(self.workers)]
        self._program = RunningProgram(
            [EMBERQ, "up", *arguments],
            log=self.log,
            printed=self.log.with_suffix(".out"),
            environment=self.environment,
        )
        ready = self._program.wait_for_print(r"ready at (http://[\d.:]+)\s", seconds=_START_SECONDS)
        self.url = ready[1]
        if not self.key:
            self.key = (self.data_dir / "first-api-key").read_text().strip()
        return self

    @property
    def _running(self) -> RunningProgram:
        assert self._program is not None, "it was not started"
        return self._program

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Whether that process has not ended."""
        return self._running.is_running

    @property
    def printed(self) -> str:
        """What the last start printed."""
        return self._running.printed

    def family(self) -> list[int]:
        """Return the processes below it."""
        return self._running.family()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running.send(number)

    def kill(self) -> None:
        """Send it SIGKILL and wait for its own end; what it started may still be ending then."""
        self._running.kill()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, wait until it and all that it started have ended, and return its exit code."""
        return self._program.stop(number) if self._program is not None else 0

    def http(self, *, key: str | None = None) -> httpx.Client:
        """Return a client of its API, by default with the first key."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=_REQUEST_SECONDS)

    def cli(
        self, *arguments: str, expect: int = 0, key: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `emberq` against its API, and return what became of it."""
        environment = {
            **os.environ,
            "EMBERQ_URL": self.url,
            "EMBERQ_API_KEY": self.key if key is None else key,
            "COLUMNS": "200",
        }
        done = run_program(EMBERQ, *arguments, environment=environment)
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def events(self) -> list[dict[str, Any]]:
        """Return the records of its log, of all starts."""
        return self._running.records()

    def wait_for_event(self, **fields: Any) -> dict[str, Any]:
        """Wait until its log has a record with these fields, and return the first one."""
        return self._running.wait_for_record(**fields)

    def upload(
        self, client: httpx.Client, name: str, content: bytes | Path, collection: str = "docs", **form: str
    ) -> httpx.Response:
        """Upload a file."""
        data = content.read_bytes() if isinstance(content, Path) else content
        return client.post(f"/api/v1/collections/{collection}/files", files={"file": (name, data)}, data=form)

    @property
    def engines(self) -> Engines:
        """Where its own PostgreSQL and Valkey are; they are not started by this."""
        return Engines(self.data_dir, database_url=None, redis_url=None)

    def database(self) -> closing[Database]:
        """Open its PostgreSQL past it."""
        return closing(Database(self.engines.database_url))

    @contextmanager
    def nothing_stored(self) -> Iterator[None]:
        """As `nothing_stored`, in its own PostgreSQL."""
        with self.database() as database, nothing_stored(database):
            yield

    def wait(
        self, client: httpx.Client, job_id: str, *, seconds: float = 2 * LIMIT_SECONDS
    ) -> dict[str, Any]:
        """Wait until a job has ended, and return it; the API may be unavailable meanwhile."""

        def look() -> dict[str, Any]:
            answer = client.get(f"/api/v1/jobs/{job_id}")
            found: dict[str, Any] = answer.json()
            return found

        return eventually(look, lambda job: job.get("state") in _ENDED, seconds=seconds)
