"""The rehearsal: a file that does not exist, taken through Open WebUI's processing before the fork.

The first file imports modules, compiles patterns and statements and has the interpreter rewrite code, in
each horse anew. Done once before the fork, every horse finds it done, and shares the memory of it. Nothing
is sent to a server, and nothing is written: the texts get no vectors, and the rows asked for do not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emberq.errors import FileNotFound
from emberq.openwebui.configuration import PinnedConfiguration
from emberq.openwebui.rows import FileRows
from emberq.openwebui.seams import stored_ids
from emberq.openwebui.upstream import OpenWebUI
from emberq.telemetry.logs import get_logger
from emberq.worker.rehearsal import TURNS

__all__ = ["rehearse", "rehearse_file"]

log = get_logger(__name__)

#: A file and a collection of this name do not exist.
_NOBODY = "emberq-rehearsal"
_TEXT = "# A heading\n\n" + "\n\n".join(f"A paragraph of the rehearsal, the {n}th. " * 20 for n in range(8))


def rehearse_file(open_webui: OpenWebUI, pinned: PinnedConfiguration) -> None:
    """Take a file that does not exist through the processing, before the fork."""

    async def take_turns() -> None:
        try:
            await rehearse(open_webui, pinned, turns=TURNS)
        finally:
            await open_webui.database.async_engine.dispose()

    asyncio.run(take_turns())


async def rehearse(open_webui: OpenWebUI, pinned: PinnedConfiguration, *, turns: int = 1) -> None:
    """Do the same on the loop that runs; if it fails, horses only start colder."""
    state = SimpleNamespace(main_loop=asyncio.get_running_loop(), ef=None, rf=None)
    request = SimpleNamespace(app=SimpleNamespace(state=state))
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rehearsal.txt"
            path.write_text(_TEXT)
            for _ in range(turns):
                with _nothing_is_stored(open_webui.retrieval):
                    await _read_and_split(open_webui, request, dict(pinned.values), path)
                await _ask_for_nobody(open_webui)
    except Exception as exc:  # noqa: BLE001 - a rehearsal decides nothing
        log.warning("openwebui_rehearsal_failed", error=type(exc).__name__)


async def _read_and_split(open_webui: OpenWebUI, request: Any, config: dict[str, Any], path: Path) -> None:
    # Whatever engine is set: nothing of the rehearsal leaves the process.
    config.update({"rag.content_extraction_engine": "", "rag.bypass_embedding_and_retrieval": False})
    loader = open_webui.retrieval.build_loader_from_config(config)
    docs = await loader.aload(path.name, "text/plain", str(path))
    await open_webui.retrieval.run_in_threadpool(
        open_webui.retrieval.save_docs_to_vector_db,
        request,
        docs=docs,
        collection_name=_NOBODY,
        config=config,
        metadata={"file_id": _NOBODY, "name": path.name, "hash": _NOBODY},
    )


async def _ask_for_nobody(open_webui: OpenWebUI) -> None:
    rows = FileRows(open_webui.database.engine, open_webui.File)

    def ask() -> None:
        with contextlib.suppress(FileNotFound):
            rows.get(_NOBODY)
        rows.end(_NOBODY, _NOBODY, status="failed", error=None)
        stored_ids(open_webui.vectors.get_vector_db_client(), _NOBODY, _NOBODY)

    await open_webui.retrieval.run_in_threadpool(ask)
    await open_webui.Users.get_user_by_id(_NOBODY)
    await open_webui.Files.get_file_by_id(_NOBODY)
    await open_webui.Files.update_file_data_by_id(_NOBODY, {})
    await open_webui.Knowledges.has_file(_NOBODY, _NOBODY)


@contextlib.contextmanager
def _nothing_is_stored(module: Any) -> Iterator[None]:
    """Have the processing embed nothing and store nothing."""
    before = module.get_embedding_function, module.get_vector_db_client

    async def no_vectors(texts: list[str], **_: Any) -> list[list[float]]:
        return [[] for _ in texts]

    nowhere = SimpleNamespace(
        query=lambda **_: None, has_collection=lambda **_: False, insert=lambda **_: None
    )
    module.get_embedding_function = lambda *_, **__: no_vectors
    module.get_vector_db_client = lambda: nowhere
    try:
        yield
    finally:
        module.get_embedding_function, module.get_vector_db_client = before
