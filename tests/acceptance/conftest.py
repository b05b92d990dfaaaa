"""`emberq up` as a process, used only over HTTP and the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from emberq.embedded import Engines
from emberq.store.database import Database
from tests.harness.paths import EMBERQ


@contextmanager
def nothing_stored(database: Database) -> Iterator[None]:
    """Meanwhile no job of a file can complete, however late the test is to act."""
    with database.transaction() as connection:
        connection.execute(text("LOCK TABLE chunks IN SHARE ROW EXCLUSIVE MODE"))
        yield


class Stack:
    """One `emberq up`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        port: int = 0,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.workers = workers
        self.environment = {**os.environ, "EMBERQ_LOG_FORMAT": "json", **(environment or {})}
        self.key = ""
        self.url = ""
        self.printed: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, seconds: float = 180) -> Stack:
        arguments = [
            "up",
            "--data-dir",
            str(self.data_dir),
            "--port",
            str(self.port),
            "-n",
            str(self.workers),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [EMBERQ, *arguments], stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        self.printed = []
        self.url = ""
        known = bool(self.key)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            if found := re.search(r"http://[\d.:]+", line):
                self.url = found[0]
            if found := re.search(r"eq_\S+", line):
                self.key = found[0]
            if self.url and (known or self.key):
                break
        timer.cancel()
        assert self.url, f"emberq up did not start: {self.printed}\n{self.log.read_text()[-4000:]}"
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def http(self, *, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def cli(
        self, *arguments: str, expect: int = 0, key: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "EMBERQ_URL": self.url,
            "EMBERQ_API_KEY": self.key if key is None else key,
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [EMBERQ, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def wait_for_event(self, seconds: float = 60, **fields: Any) -> dict[str, Any]:
        """Follow the log until a record has these fields; looks five hundred times a second."""
        deadline = time.monotonic() + seconds
        with self.log.open() as file:
            rest = ""
            while time.monotonic() < deadline:
                rest += file.read()
                *lines, rest = rest.split("\n")
                for line in lines:
                    if line.startswith("{"):
                        record: dict[str, Any] = json.loads(line)
                        if all(record.get(name) == value for name, value in fields.items()):
                            return record
                time.sleep(0.002)
        pytest.fail(f"no log record with {fields}")

    def upload(
        self, client: httpx.Client, name: str, content: bytes | Path, collection: str = "docs", **form: str
    ) -> httpx.Response:
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

    def wait(self, client: httpx.Client, job_id: str, *, seconds: float = 90) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = client.get(f"/api/v1/jobs/{job_id}")
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:  # an engine restarts
                time.sleep(0.2)
                continue
            job: dict[str, Any] = answer.json()
            if job["state"] in ("completed", "failed", "cancelled"):
                return job
            time.sleep(0.05)
        pytest.fail(f"the job did not end: {job}")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running installation, shared by tests that do not harm it."""
    running = Stack(tmp_path_factory.mktemp("up") / "data", workers=2).start()
    with running.http() as client:
        client.post("/api/v1/collections", json={"name": "docs"}).raise_for_status()
    yield running
    running.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client with the first key."""
    with stack.http() as made:
        yield made


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start installations of the test's own; they are stopped at its end."""
    made: list[Stack] = []

    def start(**options: Any) -> Stack:
        made.append(Stack(tmp_path / f"data{len(made)}", **options).start())
        return made[-1]

    yield start
    for one in made:
        one.stop(signal.SIGTERM)
