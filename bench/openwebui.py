"""A stock Open WebUI compared with the same behind emberq: files, questions during the load, memory, a kill.

`make bench-openwebui` installs what it needs and runs this. With `--write` it writes the page.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
from machine import describe_machine
from procfs import descendants_of, memory_of

from tests.acceptance.conftest import EMBERQ, Stack
from tests.acceptance.openwebui.mixed_files import MixedFile, mixed_files
from tests.acceptance.openwebui.server import EMAIL, PASSWORD, Server, database

#: Users who upload at the same time.
_USERS = 20
#: Seconds after which unfinished files are an error.
_MAX_WAIT_SECONDS = 1800.0
#: Seconds for a restarted server to finish files on its own after a kill.
_GRACE_SECONDS = 30.0
#: Smallest number of answers for which a 95th percentile is shown.
_MANY_ANSWERS = 20
#: Seconds between two questions.
_QUESTION_SECONDS = 0.25


@dataclass
class Outcome:
    """The measurements of one set-up.

    Attributes:
        name: The set-up.
        idle: Seconds of each question without other load.
        files: Number of mixed files uploaded at once, and seconds until all had ended.
        during_files: Seconds of each question during that.
        slow: The same for slow files.
        during_slow: Seconds of each question during that.
        memory: Peak MB (PSS) of all processes together.
        killed: Number of files that were processed when Open WebUI was killed.
        lost: Number of these that never ended.
    """

    name: str
    idle: list[float] = field(default_factory=list)
    files: tuple[int, float] = (0, 0.0)
    during_files: list[float] = field(default_factory=list)
    slow: tuple[int, float] = (0, 0.0)
    during_slow: list[float] = field(default_factory=list)
    memory: float = 0.0
    killed: int = 0
    lost: int = 0


class Client:
    """An admin's client for one Open WebUI."""

    def __init__(self, server: Server) -> None:
        self._http = httpx.Client(
            base_url=server.url, timeout=600, limits=httpx.Limits(max_connections=_USERS * 2)
        )
        answer = self._http.post("/api/v1/auths/signin", json={"email": EMAIL, "password": PASSWORD})
        self._http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"

    def upload(self, file: MixedFile) -> str:
        answer = self._http.post("/api/v1/files/", files={"file": (file.name, file.content)})
        return str(answer.raise_for_status().json()["id"])

    def status(self, file_id: str) -> str:
        answer = self._http.get(f"/api/v1/files/{file_id}/process/status")
        return str(answer.raise_for_status().json()["status"])

    def unfinished(self, file_ids: list[str]) -> list[str]:
        return [file_id for file_id in file_ids if self.status(file_id) not in {"completed", "failed"}]

    def ask(self, file_id: str) -> float:
        """Query one file and return the seconds of the answer."""
        body = {
            "collection_name": f"file-{file_id}",
            "query": "How long is a lease?",
            "k": 3,
            "hybrid": False,
        }
        started = time.perf_counter()
        self._http.post("/api/v1/retrieval/query/doc", json=body).raise_for_status()
        return time.perf_counter() - started


def main() -> int:
    """Measure both and print the table."""
    options = _parse()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="emberq-openwebui-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        setups = {
            "stock": stock,
            "stock + emberq": behind_emberq,
            "stock + emberq, pgvector": partial(behind_emberq, is_pgvector=True),
        }
        for title, setup in setups.items():
            if options.only in (None, title):
                place = directory / re.sub(r"\W+", "-", title)
                place.mkdir()
                with database(place / "database") as url, setup(place, url, options) as (server, stack):
                    outcomes.append(measure(title, server, stack, options))
    page = as_markdown(outcomes, options)
    sys.stdout.write(page)
    if options.write is not None:
        options.write.write_text(page, encoding="utf-8")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="directory of all-MiniLM-L6-v2 for the stock set-up")
    parser.add_argument("--files", type=int, default=100, help="mixed files uploaded at once")
    parser.add_argument("--slow", type=int, default=12, help="slow files uploaded at once")
    parser.add_argument("--slow-paragraphs", type=int, default=600, help="of each slow file")
    parser.add_argument("--only", metavar="SET-UP", help="one of them, by its title")
    parser.add_argument("--write", type=Path, help="write the page to this file")
    return parser.parse_args()


@contextlib.contextmanager
def stock(
    directory: Path, database_url: str, options: argparse.Namespace
) -> Iterator[tuple[Server, Stack | None]]:
    """Run Open WebUI with its defaults: its own parsers, its own model, its own vector database."""
    server = Server(directory / "openwebui", "http://127.0.0.1:1")
    server.environment["DATABASE_URL"] = database_url
    for name in [
        name for name in server.environment if name.startswith(("RAG_", "CONTENT_", "EXTERNAL_", "THREAD_"))
    ]:
        del server.environment[name]
    server.environment["RAG_EMBEDDING_MODEL"] = options.model
    server.start()
    try:
        yield server, None
    finally:
        server.stop()


@contextlib.contextmanager
def behind_emberq(
    directory: Path, database_url: str, _options: argparse.Namespace, *, is_pgvector: bool = False
) -> Iterator[tuple[Server, Stack | None]]:
    """Run Open WebUI with the settings that emberq prints."""
    stack = Stack(directory / "emberq", workers=2).start(seconds=120)
    try:
        server = Server(directory / "openwebui", stack.url)
        printed = stack.cli("openwebui", "settings", "--key", stack.key, "--json").stdout
        server.environment |= {**json.loads(printed), "DATABASE_URL": database_url}
        if is_pgvector:
            server.environment |= {"VECTOR_DB": "pgvector", "PGVECTOR_DB_URL": database_url}
        server.start()
        try:
            yield server, stack
        finally:
            server.stop()
    finally:
        stack.stop()


def measure(name: str, server: Server, stack: Stack | None, options: argparse.Namespace) -> Outcome:
    """Measure one set-up."""
    outcome = Outcome(name)
    client = Client(server)
    _log(f"{name}: warming up")
    asked = client.upload(MixedFile("asked.md", _slow_text(0, 5), is_readable=True))
    _wait(client, [asked])
    outcome.idle = [client.ask(asked) for _ in range(40)][10:]
    with _sampling(server, stack, outcome):
        files = [file for file in mixed_files(options.files * 2) if file.is_readable][: options.files]
        _log(f"{name}: {len(files)} mixed files")
        outcome.files, outcome.during_files = _under_load(client, asked, files)
        slow = [
            MixedFile(f"slow{number}.md", _slow_text(number + 1, options.slow_paragraphs), is_readable=True)
            for number in range(options.slow)
        ]
        _log(f"{name}: {len(slow)} slow files")
        outcome.slow, outcome.during_slow = _under_load(client, asked, slow)
    _log(f"{name}: a kill")
    outcome.killed, outcome.lost = _kill(server, stack, client, options)
    return outcome


def _under_load(client: Client, asked: str, files: list[MixedFile]) -> tuple[tuple[int, float], list[float]]:
    taken: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            taken.append(client.ask(asked))
            ended.wait(_QUESTION_SECONDS)

    started = time.perf_counter()
    with ThreadPoolExecutor(_USERS + 1) as pool:
        uploads = [pool.submit(client.upload, file) for file in files]
        asking = pool.submit(ask)
        try:
            _wait(client, [one.result() for one in uploads])
        finally:
            ended.set()
        seconds = time.perf_counter() - started
        asking.result()
    return (len(files), seconds), taken


def _wait(client: Client, file_ids: list[str]) -> None:
    deadline = time.monotonic() + _MAX_WAIT_SECONDS
    while file_ids := client.unfinished(file_ids):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(file_ids)} files have not ended.")
        time.sleep(0.2)


def _kill(
    server: Server, stack: Stack | None, client: Client, options: argparse.Namespace
) -> tuple[int, int]:
    """SIGKILL Open WebUI and restart it; return the numbers of files in progress and of those never ended."""
    file_ids = [
        client.upload(
            MixedFile(
                f"cut{number}.md", _slow_text(900 + number, options.slow_paragraphs // 4), is_readable=True
            )
        )
        for number in range(20)
    ]
    while len(at_work := client.unfinished(file_ids)) > len(file_ids) * 3 // 4:
        time.sleep(0.05)
    server.stop()
    server.start()
    client = Client(server)
    if stack is not None:
        command = [EMBERQ, "openwebui", "watch", "--once", "--stuck-after", "1"]
        subprocess.run(
            command, env=server.cli_environment(stack.data_dir / "watch"), check=False, capture_output=True
        )
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := client.unfinished(at_work)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return len(at_work), len(left)


@contextlib.contextmanager
def _sampling(server: Server, stack: Stack | None, outcome: Outcome) -> Iterator[None]:
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(2.0):
            roots = [one.pid for one in (server.process, stack.process if stack else None) if one is not None]
            total = 0.0
            for pid in itertools.chain(roots, *(descendants_of(root) for root in roots)):
                with contextlib.suppress(OSError):
                    total += memory_of(pid).proportional
            outcome.memory = max(outcome.memory, total)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _slow_text(number: int, paragraphs: int) -> bytes:
    parts = (
        f"## Part {index} of document {number}\n\n"
        + f"A lease of {index} seconds in document {number} is longer than a beat of its worker's heart. " * 6
        for index in range(paragraphs)
    )
    return "\n\n".join(parts).encode()


def as_markdown(outcomes: list[Outcome], options: argparse.Namespace) -> str:
    """Return the page."""
    slow = f"{options.slow} slow files of {options.slow_paragraphs} paragraphs each, at once"
    rows: dict[str, Callable[[Outcome], str]] = {
        "a question without other load: p50, p95, slowest": lambda one: _spread(one.idle),
        f"{options.files} mixed files by {_USERS} users at once": lambda one: f"{one.files[1]:.1f} s",
        "a question during these: p50, p95, slowest": lambda one: _spread(one.during_files),
        slow: lambda one: f"{one.slow[1]:.1f} s",
        "a question during these slow files: p50, p95, slowest": lambda one: _spread(one.during_slow),
        "peak memory of all processes (PSS)": lambda one: f"{one.memory:.0f} MB",
        f"files that have not ended {_GRACE_SECONDS:.0f} s after a kill and a restart": lambda one: (
            f"{one.lost} of {one.killed}"
        ),
    }
    lines = [
        "# Open WebUI, stock and behind emberq",
        "",
        _taken(),
        "",
        "All three run the full Open WebUI with the same embedding model; its tables are in PostgreSQL.",
        "Stock extracts and embeds files itself. Vectors are in Chroma, or, as in our recipes, in pgvector.",
        "Behind emberq, Open WebUI has the settings that `emberq openwebui settings` prints, and emberq has",
        "2 workers; after the kill, `emberq openwebui watch` runs once. A dash means that fewer than twenty",
        "questions were answered.",
        "",
        "| | " + " | ".join(one.name for one in outcomes) + " |",
        "| --- |" + " ---: |" * len(outcomes),
        *(f"| {title} | " + " | ".join(map(cell, outcomes)) + " |" for title, cell in rows.items()),
        "",
        "The slowest questions behind emberq wait in Open WebUI's own process, which no setting of emberq",
        "changes; stack traces taken at these moments show three causes. In the first second it splits the",
        "texts of all files at once, and Python runs one thread at a time. At the end of each file Chroma",
        "blocks the whole process, including its `/health`, for 0.1 to 0.3 s; pgvector does not. Sometimes",
        "Python's garbage collector searches all of its 1.1 million objects, which takes 0.45 s.",
    ]
    return "\n".join(lines) + "\n"


def _taken() -> str:
    machine = "; ".join(f"{name}: {value}" for name, value in describe_machine().items())
    return f"Taken on {datetime.now(UTC):%Y-%m-%d} with `make bench-openwebui`. {machine}."


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    is_told = len(seconds) >= _MANY_ANSWERS
    p95 = f"{statistics.quantiles(seconds, n=20)[-1] * 1000:.0f}" if is_told else "-"
    return f"{statistics.median(seconds) * 1000:.0f}, {p95}, {max(seconds) * 1000:.0f} ms"


def _log(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
