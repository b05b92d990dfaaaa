"""A real Open WebUI from a virtual environment of its own, as a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
from sqlalchemy.engine import make_url

from emberq.embedded import Engines
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.testing.ports import free_port
from tests.harness.eventually import eventually, scaled
from tests.harness.openwebui import find_python
from tests.harness.processes import RunningProgram

__all__ = ["EMAIL", "PASSWORD", "PYTHON", "Server", "database"]

PYTHON = find_python()
#: Seconds that the first start may take: it imports much and makes its tables.
_START_SECONDS = scaled(600.0)
EMAIL, PASSWORD = "admin@example.org", "a-password-of-the-tests"


@contextlib.contextmanager
def database(directory: Path) -> Iterator[str]:
    """Run PostgreSQL with pgvector for Open WebUI: with SQLite, some of many simultaneous uploads fail."""
    with Engines(directory, database_url=None, redis_url="redis://127.0.0.1:1") as engines:
        url = make_url(engines.database_url)
        yield f"postgresql://{url.username}@/{url.database}?host={url.query['host']}"


class Server:
    """One Open WebUI that can be started, killed and restarted on the same port."""

    def __init__(self, data_dir: Path, peer_url: str, *, python: Path | str | None = PYTHON) -> None:
        self._program = Path(python or "").with_name("open-webui")
        self.data_dir = data_dir
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._running: RunningProgram | None = None
        self._token = ""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = {
            **kept,
            "DATA_DIR": str(data_dir),
            "WEBUI_SECRET_KEY": "a-secret-of-the-tests",
            "OFFLINE_MODE": "true",
            "HF_HUB_OFFLINE": "1",
            "ENABLE_PERSISTENT_CONFIG": "False",
            "ENABLE_OLLAMA_API": "False",
            "ENABLE_OPENAI_API": "False",
            "ENABLE_API_KEYS": "true",
            "WEBUI_ADMIN_EMAIL": EMAIL,
            "WEBUI_ADMIN_PASSWORD": PASSWORD,
            "THREAD_POOL_SIZE": "64",
            "CONTENT_EXTRACTION_ENGINE": "external",
            "EXTERNAL_DOCUMENT_LOADER_URL": peer_url,
            "EXTERNAL_DOCUMENT_LOADER_API_KEY": "loader-key",
            "RAG_EMBEDDING_ENGINE": "openai",
            "RAG_EMBEDDING_MODEL": "stand-in",
            "RAG_OPENAI_API_BASE_URL": f"{peer_url}/v1",
            "RAG_OPENAI_API_KEY": "embedding-key",
            "RAG_EMBEDDING_BATCH_SIZE": "32",
            "DO_NOT_TRACK": "true",
            "ANONYMIZED_TELEMETRY": "False",
        }

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._running is not None and self._running.is_running

    def start(self) -> None:
        """Start it and wait until it is healthy."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        running = self._running = RunningProgram(
            [self._program, "serve", "--host", "127.0.0.1", "--port", str(self.port)],
            log=self.log,
            environment=self.environment,
            cwd=self.data_dir,
        )

        def look() -> bool:
            assert running.is_running, running.log[-4000:]
            return httpx.get(f"{self.url}/health", timeout=scaled(30)).status_code == 200

        eventually(
            look, seconds=_START_SECONDS, despite=httpx.TransportError, told=lambda: running.log[-4000:]
        )

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it; by default as a crash would."""
        if self._running is not None:
            self._running.stop(number)

    def client(self) -> OpenWebUIClient:
        return OpenWebUIClient(self.url, self.token())

    def token(self) -> str:
        """Return the admin's token; signing in is allowed fifteen times in three minutes."""
        if not self._token:
            body = {"email": EMAIL, "password": PASSWORD}
            answer = httpx.post(f"{self.url}/api/v1/auths/signin", json=body, timeout=scaled(60))
            self._token = str(answer.raise_for_status().json()["token"])
        return self._token

    def cli_environment(self, data_dir: Path) -> dict[str, str]:
        return {
            **os.environ,
            "EMBERQ_DATA_DIR": str(data_dir),
            "EMBERQ_OPENWEBUI_URL": self.url,
            "EMBERQ_OPENWEBUI_API_KEY": self.token(),
        }
