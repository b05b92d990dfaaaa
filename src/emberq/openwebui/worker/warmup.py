"""The rehearsal: a file that does not exist, taken through Open WebUI's processing before the fork.

The first file imports modules, compiles patterns and statements and has the interpreter rewrite code, in
each horse anew. Done once before the fork, every horse finds it done, and shares the memory of it. Nothing
is sent to an embedding server but to one of our own, and nothing is kept: the rows asked for do not exist,
and what is written, a file's row and chunks in pgvector, is taken back with its transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import getproxies

from emberq.openwebui.worker.configuration import PinnedConfiguration
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI
from emberq.openwebui.worker.interception import stored_ids
from emberq.openwebui.worker.rows import OpenWebUIFileRows
from emberq.telemetry.logs import get_logger
from emberq.worker.supervisor.warmup import WARMUP_RUNS

__all__ = ["warm_up", "warm_up_file"]

log = get_logger(__name__)

#: A file and a collection of this name do not exist.
_NOBODY = "emberq-rehearsal"
_CHUNKS = 8
#: Length of the vectors that its server makes.
_DIMENSION = 384
_PARAGRAPHS = (f"A paragraph of the rehearsal, the {n}th. " * 20 for n in range(_CHUNKS))
_TEXT = "\n\n".join(("# A heading", *_PARAGRAPHS))


def warm_up_file(open_webui: InstalledOpenWebUI, pinned: PinnedConfiguration) -> None:
    """Take a file that does not exist through the processing, before the fork."""

    async def take_turns() -> None:
        try:
            await warm_up(open_webui, pinned, turns=WARMUP_RUNS)
        finally:
            await open_webui.database.async_engine.dispose()

    asyncio.run(take_turns())


async def warm_up(open_webui: InstalledOpenWebUI, pinned: PinnedConfiguration, *, turns: int = 1) -> None:
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
                await _change_and_take_back(open_webui)
                await _embed(open_webui)
    except Exception as exc:  # noqa: BLE001 - a rehearsal decides nothing
        log.warning("openwebui_rehearsal_failed", error=type(exc).__name__)


async def _read_and_split(
    open_webui: InstalledOpenWebUI, request: Any, config: dict[str, Any], path: Path
) -> None:
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


async def _ask_for_nobody(open_webui: InstalledOpenWebUI) -> None:
    rows = OpenWebUIFileRows(open_webui.database.engine, open_webui.File)

    def ask() -> None:
        rows.warm_up(_NOBODY)
        client = open_webui.vectors.get_vector_db_client()
        stored_ids(client, _NOBODY, _NOBODY)
        open_webui.retrieval.has_duplicate_content(_NOBODY, _NOBODY, _NOBODY)
        if type(client).__module__.endswith(".pgvector"):
            _store_and_take_back(client)

    await open_webui.retrieval.run_in_threadpool(ask)
    await open_webui.Users.get_user_by_id(_NOBODY)
    await open_webui.Files.get_file_by_id(_NOBODY)
    await open_webui.Files.update_file_data_by_id(_NOBODY, {})
    await open_webui.Knowledges.has_file(_NOBODY, _NOBODY)
    await open_webui.Functions.get_functions_by_type("event", active_only=True)
    for table, model in open_webui.models:
        # At a row's first one, all classes there are get looked at; what this one has is no user or file.
        with contextlib.suppress(ValueError):
            model.model_validate(table())


async def _change_and_take_back(open_webui: InstalledOpenWebUI) -> None:
    """Write a file's row and change it, in a transaction that is rolled back."""
    async with open_webui.database.get_async_db_context() as session:
        file = open_webui.File(id=_NOBODY, user_id=_NOBODY, filename=_NOBODY, updated_at=0)
        session.add(file)
        await session.flush()
        # In the second in which a file was uploaded, its time stays.
        for moment in (0, 1):
            for name, value in (("data", {}), ("meta", {}), ("hash", _NOBODY)):
                setattr(file, name, value if moment == 0 else None)
                file.updated_at += moment
                await session.flush()
        await session.rollback()


async def _embed(open_webui: InstalledOpenWebUI) -> None:
    """Send a batch to a server of our own, which is there for that long only."""
    if getproxies().get("http"):
        return  # It might be sent there.
    embed = open_webui.embeddings.agenerate_openai_batch_embeddings
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await embed(_NOBODY, [_TEXT], f"http://127.0.0.1:{port}", "")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    await reader.readexactly(int(message_from_string(head.partition("\r\n")[2])["content-length"]))
    body = json.dumps({"data": [{"embedding": [0.5] * _DIMENSION}]}).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    writer.close()


def _store_and_take_back(client: Any) -> None:
    """Insert chunks into pgvector in a transaction that is rolled back."""
    item = {"text": _TEXT, "vector": [0.5], "metadata": {"file_id": _NOBODY}}
    # The scoped session's own attribute hides the method of its class.
    client.session.commit = client.session.rollback
    try:
        client.insert(_NOBODY, [{"id": f"{_NOBODY}-{n}", **item} for n in range(_CHUNKS)])
    finally:
        del client.session.commit


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
