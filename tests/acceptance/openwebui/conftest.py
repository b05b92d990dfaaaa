"""A real Open WebUI from its own virtual environment, and stand-ins for what it calls.

The stand-ins are peers: a loader and an embedding endpoint whose answers and failures the tests decide.
emberq's own endpoints are tested elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.records import StoredFile
from tests.acceptance.openwebui.server import PASSWORD, PYTHON, Server
from tests.harness.eventually import eventually
from tests.harness.paths import EMBERQ
from tests.harness.processes import run_program

DIMENSIONS = 384


class Peer:
    """The servers that Open WebUI calls: `PUT /process` and `POST /v1/embeddings`.

    Attributes:
        delay: Seconds an extraction takes.
        process_status: What `PUT /process` answers with.
        embeddings_status: What `POST /v1/embeddings` answers with.
        processed: How often each file was extracted, by its name in Open WebUI.
        vector: Makes a text's vector.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.process_status = self.embeddings_status = 200
        self.processed: Counter[str] = Counter()
        self.vector: Callable[[str], list[float]] = _vector
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.delay, self.process_status, self.embeddings_status = 0.0, 200, 200
        self.vector = _vector
        self.processed.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _vector(text: str) -> list[float]:
    """Make a text's vector; texts with common words have vectors close to each other."""
    made = [0.001] * DIMENSIONS
    for word in text.lower().split():
        made[sum(word.encode()) % DIMENSIONS] += 1.0
    return made


def _handler(peer: Peer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "uvicorn", ""

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            peer.processed[self.headers["X-Filename"].split("_", 1)[1]] += 1
            time.sleep(peer.delay)
            if peer.process_status != 200:
                self._answer(peer.process_status, {"error": "the stand-in was told to fail"})
                return
            self._answer(200, [{"page_content": content.decode().strip(), "metadata": {"page": 0}}])

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            if peer.embeddings_status != 200:
                self._answer(peer.embeddings_status, {"error": "the stand-in was told to fail"})
                return
            self._answer(200, {"data": [{"embedding": peer.vector(text)} for text in texts]})

        def _answer(self, status: int, body: object) -> None:
            written = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(written)))
                self.end_headers()
                self.wfile.write(written)
            except ConnectionError:  # who asked was killed meanwhile
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class Chunks:
    """The chunks in Open WebUI's collections."""

    def __init__(self, client: OpenWebUIClient) -> None:
        self._client = client

    def of(self, collection: str) -> list[tuple[str, str]]:
        """Return (file id, text) of every chunk of a collection."""
        body = {"collection_name": collection, "query": "anything", "k": 100_000, "hybrid": False}
        found = self._client.post("/api/v1/retrieval/query/doc", body)
        if not found or not found.get("documents"):
            return []
        return [
            (meta["file_id"], text)
            for meta, text in zip(found["metadatas"][0], found["documents"][0], strict=True)
        ]


@pytest.fixture(scope="session")
def openwebui_peer() -> Iterator[Peer]:
    """The stand-ins, for the whole session."""
    made = Peer()
    yield made
    made.close()


@pytest.fixture(scope="session")
def openwebui_process(openwebui_peer: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One Open WebUI for the whole session."""
    if PYTHON is None:
        pytest.skip("no environment with Open WebUI: `make test-openwebui`")
    made = Server(tmp_path_factory.mktemp("openwebui") / "data", openwebui_peer.url)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def peer(openwebui_peer: Peer) -> Iterator[Peer]:
    """The stand-ins, reset."""
    openwebui_peer.reset()
    yield openwebui_peer
    openwebui_peer.reset()


@pytest.fixture
def server(openwebui_process: Server, peer: Peer) -> Server:
    """A running Open WebUI; earlier tests may have killed it."""
    if not openwebui_process.is_running:
        openwebui_process.start()
    return openwebui_process


@pytest.fixture
def webui(server: Server) -> Iterator[OpenWebUIClient]:
    """A client of it, as its admin."""
    with server.client() as made:
        yield made


@pytest.fixture
def chunks(webui: OpenWebUIClient) -> Chunks:
    """The chunks in its vector database."""
    return Chunks(webui)


@pytest.fixture
def emberq(server: Server, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `emberq openwebui …` against it, with a data directory of the test's own."""

    def run(*arguments: str, expect: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**server.cli_environment(tmp_path / "emberq"), **more}
        done = run_program(EMBERQ, "openwebui", *arguments, environment=environment)
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert server.token() not in done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done

    return run


def wait_for_status(client: OpenWebUIClient, file_ids: list[str], *statuses: str) -> None:
    """Wait until each file has one of these statuses."""
    eventually(
        lambda: {file_id: client.status_of(file_id) for file_id in file_ids},
        lambda seen: set(seen.values()) <= set(statuses),
    )


def write_files(folder: Path, count: int, *, start: int = 0) -> list[Path]:
    """Write files that differ, of a few chunks each, some in subfolders."""
    made = []
    for number in range(start, start + count):
        path = folder / (f"part{number % 3}" if number % 2 else "") / f"note{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        paragraphs = [f"Paragraph {part} of note {number}: " + f"word{number} " * 60 for part in range(4)]
        path.write_text(f"# Note {number}\n\n" + "\n\n".join(paragraphs))
        made.append(path)
    return made


def by_name(files: Iterator[StoredFile] | list[StoredFile]) -> dict[str, Any]:
    """Return files by their names."""
    return {file.name: file for file in files}
