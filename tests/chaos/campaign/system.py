"""The whole system of a campaign: engines, API, worker hosts, the wires between them, in one directory."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import make_url

from emberq.embedded import DataDirectory, Engines
from emberq.embedded.passwords import PASSWORDS_FILE, Passwords
from emberq.errors import EmberqError
from emberq.testing.ports import free_port
from emberq.testing.proxy import TcpProxy
from tests.chaos.campaign.programs import RESTART_SECONDS, Program
from tests.chaos.campaign.surroundings import own_network, small_file_system
from tests.harness.eventually import eventually, scaled
from tests.harness.processes import send

__all__ = ["COLLECTION", "SETTINGS", "System", "Wires", "run_system"]

COLLECTION = "campaign"
#: Run-time settings that differ from their defaults, and why.
SETTINGS: dict[str, Any] = {
    # Two lines a chunk, each line in one chunk only.
    "rag_chunk_size": 64,
    "rag_chunk_overlap": 0,
    # A minute is right for a provider that is ill; a campaign would only wait.
    "job_retry_delay": 0.5,
    # A stopped horse is to be found within the bound for recovery.
    "stall_timeout": 8,
}
_START_SECONDS = scaled(300.0)


@dataclass(frozen=True, slots=True)
class Wires:
    """The connections of one host, which can be cut, delayed and silenced."""

    redis: TcpProxy
    database: TcpProxy


class System:
    """Engines, an API and hosts that can be killed one by one and come back by themselves.

    Call `ensure_ready` from the main thread again and again: engines end with the thread that started them.
    """

    def __init__(
        self, directory: Path, engines: Engines, wires: list[Wires], *, hosts: int, slots: int
    ) -> None:
        """Describe the system; `run_system` makes one. Without wires hosts live in networks of their own."""
        self.directory = directory
        self.engines = engines
        self.wires = wires
        self.slots = slots
        self.blobs = directory / "blobs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v1"
        self.key = ""
        self.api = self._program("api", ["serve", "--port", str(self.port)], {})
        self.hosts = [
            self._program(
                f"host{number}",
                ["worker", "--workers", str(slots)],
                self._behind(wires[number - 1]) if wires else {},
                prefix=[] if wires else own_network(),
            )
            for number in range(1, hosts + 1)
        ]
        self.up_port = free_port()
        self.up = Program(
            "up",
            ["up", "--port", str(self.up_port), "--workers", str(slots)],
            log=directory / "up.log",
            environment={"EMBERQ_DATA_DIR": str(directory / "up")},
            # Whatever is left of it has to be gone, or be ended by the start.
            pause_seconds=0.0,
        )
        self._dead_since: float | None = None

    @property
    def programs(self) -> list[Program]:
        """The API, the hosts, and with wires the installation beside them that has engines of its own."""
        return [self.api, *self.hosts, *([self.up] if self.wires else [])]

    @property
    def sockets(self) -> tuple[str, str]:
        """Where the engines listen: the directory of PostgreSQL's socket, and Valkey's socket."""
        redis = urlsplit(self.engines.redis_url).path
        return str(make_url(self.engines.database_url).query["host"]), redis

    def engine_pid(self, name: str, *, of: str = "engines") -> int:
        """Return the process of `postgres` or `valkey`, as its pid file has it; `up` has its own."""
        text = (self.directory / of / f"{name}.pid").read_text(encoding="ascii")
        return int(text.split()[0])

    def roots(self) -> list[int]:
        """Return the processes below which all others are."""
        found = [program.pid for program in self.programs if program.pid]
        for name in ("valkey", "postgres"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                found.append(self.engine_pid(name))
        return found

    def left_directories(self) -> list[str]:
        """Return the temporary directories of emberq that programs have left."""
        return [path.name for path in self.directory.glob("*-tmp/emberq-*")]

    def start(self) -> None:
        """Start everything, make the collection, and wait until the hosts are ready."""
        self.engines.start()
        self.api.start()
        printed = self.api.log.with_suffix(".out")
        _wait(lambda: "API key is in" in _read(printed), "the API's first key", self.api)
        found = re.search(r"API key is in (.+);", _read(printed))
        self.key = Path(found[1]).read_text().strip() if found else ""
        with self.client() as client:
            _wait(lambda: _answers(client), "an answer of the API", self.api)
            client.post("/collections", json={"name": COLLECTION}).raise_for_status()
            for name, value in SETTINGS.items():
                client.put(f"/settings/{name}", json={"value": value}).raise_for_status()
        for program in self.programs[1:]:
            program.start()
        for program in self.programs[1:]:
            _wait(partial(_says_ready, program), "ready workers", program)

    def client(self, *, seconds: float = 10.0) -> httpx.Client:
        """Return a client with the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=seconds)

    def ensure_ready(self) -> None:
        """Start dead engines again; call it from the thread that called `start`."""
        if not self.engines.check():
            self._dead_since = None
            return
        if self._dead_since is None:
            self._dead_since = time.monotonic()
        if time.monotonic() - self._dead_since < RESTART_SECONDS:
            return
        with contextlib.suppress(EmberqError):
            self.engines.ensure()

    def tend_programs(self, stop: threading.Event) -> None:
        """Start dead programs again until told to stop; the body of a thread that outlives them."""
        while not stop.wait(0.05):
            for program in self.programs:
                program.ensure_ready()

    def kill(self, pids: list[int]) -> None:
        """SIGKILL processes, as near to at once as can be."""
        for pid in pids:
            send(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop programs and engines."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.engines.stop)
            for program in self.programs:
                stack.callback(program.stop)

    def _program(
        self, name: str, arguments: list[str], environment: dict[str, str], *, prefix: list[str] | None = None
    ) -> Program:
        return Program(
            name,
            arguments,
            prefix=prefix or [],
            log=self.directory / f"{name}.log",
            environment={
                "EMBERQ_DATA_DIR": str(self.directory / name),
                "EMBERQ_BLOB_URL": f"file://{self.blobs}",
                "EMBERQ_DATABASE_URL": self.engines.database_url,
                "EMBERQ_REDIS_URL": self.engines.redis_url,
                **environment,
            },
        )

    def _behind(self, wires: Wires) -> dict[str, str]:
        login = urlsplit(self.engines.redis_url).netloc.rpartition("@")[0]
        return {
            "EMBERQ_DATABASE_URL": make_url(self.engines.database_url)
            .set(host="127.0.0.1", port=wires.database.port, query={})
            .render_as_string(hide_password=False),
            "EMBERQ_REDIS_URL": f"redis://{login}@127.0.0.1:{wires.redis.port}/0",
        }


@contextlib.contextmanager
def run_system(directory: Path, *, hosts: int = 2, slots: int = 2, is_wired: bool = True) -> Iterator[System]:
    """Run a whole system in an empty directory, its blobs on a small file system where that is permitted.

    Programs and wires are threads' work; engines are the caller's, who has to `ensure_ready` them.

    Args:
        directory: Where everything is kept.
        hosts: Number of worker hosts, each with a data directory of its own.
        slots: Worker slots of each.
        is_wired: Whether hosts reach the engines over wires that can be cut. If not, they use the engines'
            Unix sockets, and live in network namespaces of their own where that is permitted.
    """
    # PostgreSQL runs under an account of its own where we are root, and must get there.
    directory.chmod(0o755)
    with DataDirectory(directory / "engines") as data:
        # Known before the first start, as the programs are told the URL by then.
        Passwords.new().write(data.path / PASSWORDS_FILE)
    engines = Engines(directory / "engines", database_url=None, redis_url=None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(small_file_system(directory / "blobs"))
        # The account of Valkey is made by the first start.
        stack.callback(engines.stop)
        engines.start()
        database = make_url(engines.database_url).query["host"]
        redis = urlsplit(engines.redis_url).path
        wires = [
            Wires(
                stack.enter_context(TcpProxy(redis)),
                stack.enter_context(TcpProxy(f"{database}/.s.PGSQL.5432")),
            )
            for _ in range(hosts if is_wired else 0)
        ]
        system = System(directory, engines, wires, hosts=hosts, slots=slots)
        stack.callback(system.stop)
        system.start()
        stop = threading.Event()
        keeper = threading.Thread(target=system.tend_programs, args=(stop,), name="programs")
        keeper.start()
        try:
            yield system
        finally:
            stop.set()
            keeper.join()


def _wait(condition: Callable[[], bool], what: str, program: Program) -> None:
    def look() -> bool:
        assert program.pid, f"{program.name} has ended: no {what}.\n{_read(program.log)[-3000:]}"
        return condition()

    eventually(
        look, seconds=_START_SECONDS, told=lambda: f"{program.name}: no {what}.\n{_read(program.log)[-3000:]}"
    )


def _says_ready(host: Program) -> bool:
    return "ready" in _read(host.log.with_suffix(".out"))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/collections").is_success
    except httpx.TransportError:
        return False
