"""The modules and classes of the installed Open WebUI that emberq calls.

They are imported once per host, before the fork. The import creates engines and connects the vector client;
these connections are closed again, so that no horse inherits one.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from emberq.errors import DatabaseUnavailable, InvalidRequest, causes
from emberq.openwebui.worker.rows import classify_error
from emberq.openwebui.worker.version_check import prepare_environment, require_tested_version
from emberq.retry.classify import ErrorKind
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InstalledOpenWebUI:
    """The modules and classes of Open WebUI that jobs use.

    Attributes:
        retrieval: The module that processes files.
        embeddings: The module that sends requests to embedding servers.
        uploads: The module of file routes, which handles audio, images and video.
        database: The module of engines.
        vectors: The module of the vector client.
        Config: The configuration, one row per key.
        File: The table of files.
        Files: Reads and writes files.
        Users: Reads users.
        Functions: Reads the functions that events call.
        Knowledges: Reads knowledge bases and links files to them.
        Storage: Reads uploaded bytes.
        models: Tables, each with the pydantic model of its rows.
        duplicate_content: The message for content that a collection already has.
        empty_content: The message for a file without text.
    """

    retrieval: Any
    embeddings: Any
    uploads: Any
    database: Any
    vectors: Any
    Config: Any
    File: Any
    Files: Any
    Users: Any
    Functions: Any
    Knowledges: Any
    Storage: Any
    models: tuple[tuple[Any, Any], ...]
    duplicate_content: str
    empty_content: str

    @property
    def is_sqlite(self) -> bool:
        """Whether Open WebUI's database is SQLite."""
        return bool(self.database.engine.dialect.name == "sqlite")

    def engines(self) -> list[Any]:
        """Return the synchronous engines: the database's, then pgvector's if that is another one."""
        engines = [self.database.engine]
        session = getattr(self.vectors.VECTOR_DB_CLIENT, "session", None)
        if session is not None and session is not self.database.ScopedSession:
            engines.append(session.get_bind())
            session.remove()
        return engines


def import_open_webui() -> InstalledOpenWebUI:
    """Import the installed Open WebUI.

    Raises:
        InvalidRequest: If it is not installed, its version is not a tested one, or a worker must refuse its
            environment.
        DatabaseUnavailable: If the database or the vector store does not answer.
    """
    version = require_tested_version()
    prepare_environment()
    started_at = time.monotonic()
    # The import configures the root logger, which the worker has already configured.
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    try:
        open_webui = _import_all()
    except SystemExit as exc:
        raise InvalidRequest(f"Open WebUI refuses its environment: {exc}") from exc
    except Exception as exc:
        if _is_outage(exc):
            raise DatabaseUnavailable(
                "Open WebUI's database or vector store does not answer.",
                hint="Check DATABASE_URL and PGVECTOR_DB_URL, and that the servers run.",
            ) from exc
        raise
    finally:
        logger.handlers[:], logger.level = handlers, level
    close_connections(open_webui)
    log.info("openwebui_imported", version=version, seconds=round(time.monotonic() - started_at, 2))
    return open_webui


def _import_all() -> InstalledOpenWebUI:
    # First, as the other modules read the configuration while they are imported.
    importlib.import_module("open_webui.config")
    modules = {
        name: importlib.import_module(f"open_webui.{name}")
        for name in (
            *(
                "internal.db",
                "constants",
                "models.config",
                "models.files",
                "models.users",
                "models.knowledge",
                "models.functions",
            ),
            *("retrieval.vector.factory", "retrieval.utils", "routers.retrieval", "routers.files"),
            # Imported late by Open WebUI, for the notifications at the end of a job.
            *("storage.provider", "socket.main", "utils.webhook", "utils.notifications"),
        )
    }
    messages = modules["constants"].ERROR_MESSAGES
    return InstalledOpenWebUI(
        retrieval=modules["routers.retrieval"],
        embeddings=modules["retrieval.utils"],
        uploads=modules["routers.files"],
        database=modules["internal.db"],
        vectors=modules["retrieval.vector.factory"],
        Config=modules["models.config"].Config,
        File=modules["models.files"].File,
        Files=modules["models.files"].Files,
        Users=modules["models.users"].Users,
        Functions=modules["models.functions"].Functions,
        Knowledges=modules["models.knowledge"].Knowledges,
        Storage=modules["storage.provider"].Storage,
        models=(
            (modules["models.users"].User, modules["models.users"].UserModel),
            (modules["models.files"].File, modules["models.files"].FileModel),
        ),
        duplicate_content=str(messages.DUPLICATE_CONTENT.value),
        empty_content=str(messages.EMPTY_CONTENT.value),
    )


def close_connections(open_webui: InstalledOpenWebUI) -> None:
    """Close all connections of this process; the engines open new ones when they are used."""
    for session in (
        open_webui.database.ScopedSession,
        getattr(open_webui.vectors.VECTOR_DB_CLIENT, "session", None),
    ):
        if session is not None:
            session.remove()
    for engine in open_webui.engines():
        engine.dispose()
    # It has no connections in this process: they are opened on an event loop.
    open_webui.database.async_engine.sync_engine.dispose(close=False)


def _is_outage(error: BaseException) -> bool:
    for cause in causes(error):
        with contextlib.suppress(Exception):
            if classify_error(cause) is not ErrorKind.PERMANENT:
                return True
    return False
