"""Open WebUI as it is installed: everything of it that is called, named in one place.

It is imported once per host, before the fork. What its import opens (it makes its engines as it is
imported, and its vector client connects) is closed again, so that no horse inherits a connection.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from emberq.errors import DatabaseUnavailable, InvalidRequest, causes
from emberq.openwebui.worker.version_check import prepare_environment, require_tested_version
from emberq.retry.classify import ErrorKind
from emberq.telemetry.logs import get_logger

__all__ = ["InstalledOpenWebUI", "close_connections", "import_open_webui"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InstalledOpenWebUI:
    """The modules and classes of Open WebUI that jobs use.

    Attributes:
        retrieval: Its module of the processing itself.
        embeddings: Its module that asks embedding servers.
        uploads: Its module of file routes, which knows what is done with audio, images and video.
        database: Its module of engines.
        vectors: Its module that makes the vector client.
        Config: Its configuration, one row per key.
        File: The table of files.
        Files: Reads and writes files.
        Users: Reads users.
        Functions: Reads the functions that events call.
        Knowledges: Reads knowledge bases and links files to them.
        Storage: Where uploaded bytes lie.
        models: Tables, each with the model that its rows become.
        duplicate_content: What it says of content that a collection has already.
        empty_content: What it says of a file without text.
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
        """Whether its database is SQLite."""
        return bool(self.database.engine.dialect.name == "sqlite")

    def engines(self) -> list[Any]:
        """Return the engines it has: of the database, synchronous, then of pgvector, if it has its own."""
        found = [self.database.engine]
        session = getattr(self.vectors.VECTOR_DB_CLIENT, "session", None)
        if session is not None and session is not self.database.ScopedSession:
            found.append(session.get_bind())
            session.remove()
        return found


def import_open_webui() -> InstalledOpenWebUI:
    """Import the installed Open WebUI, if it is one that may run here.

    Raises:
        InvalidRequest: If it is not installed, of an untested version, or set up in a way that a worker
            must refuse.
        DatabaseUnavailable: If the vector store does not answer.
    """
    installed = require_tested_version()
    prepare_environment()
    began_at = time.monotonic()
    # Its import sets up the root logger; whoever runs the worker has done that already.
    before = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        found = _import_all()
    except SystemExit as exc:
        raise InvalidRequest(f"Open WebUI refuses its environment: {exc}") from exc
    except Exception as exc:
        if _is_away(exc):
            raise DatabaseUnavailable(
                "Open WebUI's database or vector store does not answer.",
                hint="Check DATABASE_URL and PGVECTOR_DB_URL, and that the servers run.",
            ) from exc
        raise
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
    close_connections(found)
    log.info("openwebui_imported", version=installed, seconds=round(time.monotonic() - began_at, 2))
    return found


def _import_all() -> InstalledOpenWebUI:
    # The configuration first: the others read from it as they are imported.
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
            # What the end of a job imports to tell others of it.
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
    """Close every connection of this process; the engines stay usable and open new ones."""
    for session in (
        open_webui.database.ScopedSession,
        getattr(open_webui.vectors.VECTOR_DB_CLIENT, "session", None),
    ):
        if session is not None:
            session.remove()
    for engine in open_webui.engines():
        engine.dispose()
    # Nothing of it was opened in this process: it needs a loop for that.
    open_webui.database.async_engine.sync_engine.dispose(close=False)


def _is_away(error: BaseException) -> bool:
    from emberq.openwebui.worker.rows import classify_error

    for one in causes(error):
        with contextlib.suppress(Exception):
            if classify_error(one) is not ErrorKind.PERMANENT:
                return True
    return False
