"""The warm-up: Open WebUI's processing of a file that does not exist, before the fork and in each new horse.

The first file makes a process import modules, compile patterns and statements, and specialize bytecode.
After a warm-up before the fork, horses share the memory that this writes to. Nothing is stored: the ids do
not exist, rows and chunks are written in transactions that are rolled back, and texts are sent to an
embedding server in this process.
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

from emberq.openwebui.worker.chunks import find_chunk_ids
from emberq.openwebui.worker.configuration import PinnedConfiguration
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI
from emberq.openwebui.worker.rows import OpenWebUIFileRows
from emberq.telemetry.logs import get_logger
from emberq.worker.supervisor.warmup import WARMUP_RUNS

log = get_logger(__name__)

#: Id of a file, a user, a collection and a knowledge base that do not exist.
_NO_ID = "emberq-warm-up"
_CHUNKS = 8
#: Length of the embedding server's vectors.
_DIMENSION = 384
_PARAGRAPHS = (f"A paragraph of the warm-up, number {n}. " * 20 for n in range(_CHUNKS))
_TEXT = "\n\n".join(("# A heading", *_PARAGRAPHS))


def warm_up_before_fork(open_webui: InstalledOpenWebUI, pinned: PinnedConfiguration) -> None:
    """Run the warm-up often enough for the interpreter to specialize the bytecode."""

    async def run() -> None:
        try:
            await warm_up(open_webui, pinned, runs=WARMUP_RUNS)
        finally:
            await open_webui.database.async_engine.dispose()

    asyncio.run(run())


async def warm_up(open_webui: InstalledOpenWebUI, pinned: PinnedConfiguration, *, runs: int = 1) -> None:
    """Run the warm-up on the running loop; if it fails, the first file is slower and nothing else."""
    state = SimpleNamespace(main_loop=asyncio.get_running_loop(), ef=None, rf=None)
    request = SimpleNamespace(app=SimpleNamespace(state=state))
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "warm-up.txt"
            path.write_text(_TEXT)
            for _ in range(runs):
                with _no_storage(open_webui.retrieval):
                    await _read_and_split(open_webui, request, dict(pinned.values), path)
                await _query(open_webui)
                await _write_and_roll_back(open_webui)
                await _embed(open_webui)
    except Exception as exc:  # noqa: BLE001 - jobs do not depend on the warm-up
        log.warning("openwebui_warmup_failed", error=type(exc).__name__)


async def _read_and_split(
    open_webui: InstalledOpenWebUI, request: Any, config: dict[str, Any], path: Path
) -> None:
    # Open WebUI's own extraction, so that nothing is sent to another server.
    config.update({"rag.content_extraction_engine": "", "rag.bypass_embedding_and_retrieval": False})
    loader = open_webui.retrieval.build_loader_from_config(config)
    docs = await loader.aload(path.name, "text/plain", str(path))
    await open_webui.retrieval.run_in_threadpool(
        open_webui.retrieval.save_docs_to_vector_db,
        request,
        docs=docs,
        collection_name=_NO_ID,
        config=config,
        metadata={"file_id": _NO_ID, "name": path.name, "hash": _NO_ID},
    )


async def _query(open_webui: InstalledOpenWebUI) -> None:
    """Run the queries and updates of a job with ids that do not exist."""
    rows = OpenWebUIFileRows(open_webui.database.engine, open_webui.File)

    def query() -> None:
        rows.warm_up(_NO_ID)
        client = open_webui.vectors.get_vector_db_client()
        find_chunk_ids(client, _NO_ID, _NO_ID)
        open_webui.retrieval.has_duplicate_content(_NO_ID, _NO_ID, _NO_ID)
        if type(client).__module__.endswith(".pgvector"):
            _insert_and_roll_back(client)

    await open_webui.retrieval.run_in_threadpool(query)
    await open_webui.Users.get_user_by_id(_NO_ID)
    await open_webui.Files.get_file_by_id(_NO_ID)
    await open_webui.Files.update_file_data_by_id(_NO_ID, {})
    await open_webui.Knowledges.has_file(_NO_ID, _NO_ID)
    await open_webui.Functions.get_functions_by_type("event", active_only=True)
    for table, model in open_webui.models:
        # The first validation of a row writes to many classes; an empty row is invalid, which is enough.
        with contextlib.suppress(ValueError):
            model.model_validate(table())


async def _write_and_roll_back(open_webui: InstalledOpenWebUI) -> None:
    """Insert a file's row and change it, in a transaction that is rolled back."""
    async with open_webui.database.get_async_db_context() as session:
        file = open_webui.File(id=_NO_ID, user_id=_NO_ID, filename=_NO_ID, updated_at=0)
        session.add(file)
        await session.flush()
        # Twice each: an update within the second of the last one does not change `updated_at`.
        for seconds in (0, 1):
            for name, value in (("data", {}), ("meta", {}), ("hash", _NO_ID)):
                setattr(file, name, value if seconds == 0 else None)
                file.updated_at += seconds
                await session.flush()
        await session.rollback()


async def _embed(open_webui: InstalledOpenWebUI) -> None:
    """Send a batch to an embedding server in this process."""
    if getproxies().get("http"):
        return  # The request might go to the proxy.
    embed = open_webui.embeddings.agenerate_openai_batch_embeddings
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await embed(_NO_ID, [_TEXT], f"http://127.0.0.1:{port}", "")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    await reader.readexactly(int(message_from_string(head.partition("\r\n")[2])["content-length"]))
    body = json.dumps({"data": [{"embedding": [0.5] * _DIMENSION}]}).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    writer.close()


def _insert_and_roll_back(client: Any) -> None:
    """Insert chunks into pgvector, in a transaction that is rolled back."""
    item = {"text": _TEXT, "vector": [0.5], "metadata": {"file_id": _NO_ID}}
    # The client commits its session; an attribute of the scoped session hides the method of its class.
    client.session.commit = client.session.rollback
    try:
        client.insert(_NO_ID, [{"id": f"{_NO_ID}-{n}", **item} for n in range(_CHUNKS)])
    finally:
        del client.session.commit


@contextlib.contextmanager
def _no_storage(module: Any) -> Iterator[None]:
    """Replace the embedding function and the vector client with replacements that do nothing."""
    originals = module.get_embedding_function, module.get_vector_db_client

    async def embed(texts: list[str], **_: Any) -> list[list[float]]:
        return [[] for _ in texts]

    client = SimpleNamespace(
        query=lambda **_: None, has_collection=lambda **_: False, insert=lambda **_: None
    )
    module.get_embedding_function = lambda *_, **__: embed
    module.get_vector_db_client = lambda: client
    try:
        yield
    finally:
        module.get_embedding_function, module.get_vector_db_client = originals
