"""Parts of the tests of warm workers for Open WebUI: its Python, its tables, an embedding server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.harness.eventually import LIMIT_SECONDS, scaled
from tests.harness.paths import ROOT
from tests.harness.processes import RunningProgram

__all__ = ["EmbeddingServer", "Peer", "find_python", "run_workers", "worker_environment"]

#: Length of the vectors that the embedding server makes.
_DIMENSION = 384
#: Seconds that importing Open WebUI may take on a busy machine.
_START_SECONDS = scaled(600.0)


def find_python() -> str | None:
    """Return the Python of an environment with Open WebUI; None if there is none."""
    named = os.environ.get("EMBERQ_OPENWEBUI_PYTHON")
    found = Path(named) if named else ROOT / ".venv-openwebui" / "bin" / "python"
    # Not resolved: the path of the link in the environment tells Python which environment it is in.
    return str(found.absolute()) if found.exists() else None


def worker_environment(
    data_dir: Path, *, database_url: str, vectors_url: str, embedding_url: str
) -> dict[str, str]:
    """Return the environment of an Open WebUI server and of its workers."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": database_url,
        "VECTOR_DB": "pgvector",
        "PGVECTOR_DB_URL": vectors_url,
        "WEBUI_SECRET_KEY": "a-secret-of-the-tests",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_OPENAI_API": "false",
        "RAG_EMBEDDING_ENGINE": "openai",
        "RAG_EMBEDDING_MODEL": "the-common-model",
        "RAG_OPENAI_API_BASE_URL": embedding_url,
        "RAG_OPENAI_API_KEY": "common-key",
        "GLOBAL_LOG_LEVEL": "WARNING",
    }


class EmbeddingServer:
    """An OpenAI-shaped embedding server that records its requests.

    Attributes:
        requests: Key, model and texts of every request.
        refuse: Called with the number of each request; returns a status to refuse it with, or 0.
        delay_seconds: Taken by every request.
    """

    def __init__(self) -> None:
        """Listen on a free port."""
        self.requests: list[tuple[str, str, list[str]]] = []
        self.refuse: Callable[[int], int] = lambda _number: 0
        self.delay_seconds = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                """Answer with vectors made from the texts' digests."""
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                server.requests.append((key, asked["model"], asked["input"]))
                status = server.refuse(len(server.requests))
                time.sleep(server.delay_seconds)
                body = {"data": [{"embedding": _vector(text)} for text in asked["input"]]}
                answer = json.dumps(body if not status else {"error": "no"}).encode()
                with contextlib.suppress(OSError):
                    self.send_response(status or 200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class Peer:
    """Open WebUI's tables, reached through a process of its own environment."""

    def __init__(self, python: str, environment: dict[str, str]) -> None:
        """Start it; its first start makes the schema."""
        self._process = subprocess.Popen(
            [python, "-m", "tests.harness.openwebui_peer"],
            env={**environment, "FROM_INIT_PY": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._read() == {"ready": True}

    def __getattr__(self, call: str) -> Callable[..., Any]:
        """Return one of the peer's functions."""
        return lambda *args, **kwargs: self._ask(call, args, kwargs)

    def _ask(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call, "args": args, "kwargs": kwargs}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert "answer" in answer, answer
        return answer["answer"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the peer has ended"
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(LIMIT_SECONDS)
        self._process.stdout.close()


@contextlib.contextmanager
def run_workers(
    python: str, environment: dict[str, str], *, redis_url: str, queue: str, slots: int, log: Path
) -> Iterator[RunningProgram]:
    """Run `emberq worker --preload emberq.openwebui.warm` for a block, which begins when it is ready."""
    command = "import sys; from emberq.cli.main import main; sys.exit(main())"
    arguments = ["worker", "--preload", "emberq.openwebui.warm", "-n", str(slots), queue]
    with RunningProgram(
        [python, "-c", command, *arguments],
        environment={
            **environment,
            "EMBERQ_REDIS_URL": redis_url,
            "EMBERQ_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        },
        log=log,
        cwd=log.parent,
    ) as running:
        running.wait_for_print("workers are ready", seconds=_START_SECONDS)
        yield running


def _vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 255 - 0.5 for byte in digest] * (_DIMENSION // len(digest))
