"""The processing of one file with Open WebUI's own functions, in the steps of its server after an upload."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from emberq.errors import Forbidden, UnsupportedMediaType
from emberq.openwebui.worker.chunks import delete_chunks, find_chunk_ids
from emberq.openwebui.worker.file_attempt import FileAttempt
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI
from emberq.openwebui.worker.rows import OpenWebUIFileRow


@dataclass(frozen=True, slots=True)
class FileTask:
    """The arguments of a job.

    Attributes:
        file_id: The file.
        user_id: The user to process it for; None for the file's owner.
        collection_name: Index the text extracted earlier into this collection only.
        knowledge_id: Also add the file to this knowledge base.
        content: Text to index in place of the file's own.
    """

    file_id: str
    user_id: str | None = None
    collection_name: str | None = None
    knowledge_id: str | None = None
    content: str | None = None


async def process(
    open_webui: InstalledOpenWebUI, request: Any, task: FileTask, file: OpenWebUIFileRow, attempt: FileAttempt
) -> None:
    """Extract, split, embed and store a file, and link it to its knowledge base.

    Raises:
        Forbidden: If the user does not exist or may not write to the knowledge base.
        UnsupportedMediaType: If the file is an image and no extraction engine reads images.
        Exception: The errors of Open WebUI's processing.
    """
    user = await open_webui.Users.get_user_by_id(task.user_id or file.user_id)
    if user is None:
        raise Forbidden("Open WebUI has no such user.", hint="Run the job for an existing user.")
    form = open_webui.retrieval.ProcessFileForm
    async with open_webui.database.get_async_db_context() as session:

        async def index(**fields: Any) -> None:
            await open_webui.retrieval.index_file(request, form(file_id=file.id, **fields), user, session)

        if task.collection_name is not None:
            await index(collection_name=task.collection_name)
        else:
            content = task.content
            if content is None and await _is_audio(open_webui, file):
                content = await _transcribe(open_webui, request, file, user)
            if content is not None or await _has_text(open_webui, file):
                await index(content=content)
        if task.knowledge_id is not None:
            attempt.stage = "storing"
            await index(collection_name=task.knowledge_id)
            await _link(open_webui, task.knowledge_id, file, user)
    if file.path:
        open_webui.uploads._cleanup_local_cache(file.path)  # noqa: SLF001 - the server's last step, too


async def _is_audio(open_webui: InstalledOpenWebUI, file: OpenWebUIFileRow) -> bool:
    kinds = await open_webui.Config.get("audio.stt.supported_content_types", [])
    return bool(file.content_type and open_webui.uploads.strict_match_mime_type(kinds, file.content_type))


async def _transcribe(open_webui: InstalledOpenWebUI, request: Any, file: OpenWebUIFileRow, user: Any) -> str:
    path = await asyncio.to_thread(open_webui.Storage.get_file, file.path)
    transcript = await open_webui.uploads.transcribe(request, path, dict(file.metadata), user)
    return str(transcript.get("text", ""))


async def _has_text(open_webui: InstalledOpenWebUI, file: OpenWebUIFileRow) -> bool:
    """Return whether the file is to be extracted; videos without an engine are stored as they are."""
    kind = file.content_type or ""
    if not kind.startswith(("image/", "video/")):
        return True
    # Some text files have the MIME type of a medium because of their names, such as TypeScript's .ts.
    if file.path:
        path = await asyncio.to_thread(open_webui.Storage.get_file, file.path)
        if await asyncio.to_thread(open_webui.uploads._is_text_file, path):  # noqa: SLF001 - the server's test
            return True
    engine = await open_webui.Config.get("rag.content_extraction_engine")
    kinds = await open_webui.Config.get("rag.content_extraction.supported_media_mime_types")
    if open_webui.uploads._media_supported_for_extraction(engine, kinds, kind):  # noqa: SLF001 - the same
        return True
    if kind.startswith("video/"):
        return False
    raise UnsupportedMediaType(
        f"Files of type {kind} are not read.",
        hint="Set an extraction engine that reads images in Open WebUI's document settings.",
    )


async def _link(open_webui: InstalledOpenWebUI, knowledge_id: str, file: OpenWebUIFileRow, user: Any) -> None:
    """Link the file to the knowledge base, unless it is already linked."""
    knowledges = open_webui.Knowledges
    if await knowledges.has_file(knowledge_id, file.id):
        return
    directory_id = file.metadata.get("directory_id") or None
    if directory_id is not None:
        directory = await knowledges.get_directory_by_id(directory_id)
        if directory is None or directory.knowledge_id != knowledge_id:
            directory_id = None
    linked = await knowledges.add_file_to_knowledge_by_id(
        knowledge_id=knowledge_id, file_id=file.id, user_id=user.id, directory_id=directory_id
    )
    # None is the answer to every error, also if the server or another attempt has just linked the file.
    if linked is None and not await knowledges.has_file(knowledge_id, file.id):
        raise Forbidden(
            "The file could not be linked to the knowledge base.", hint="Check that it still exists."
        )


def delete_all_chunks(open_webui: InstalledOpenWebUI, task: FileTask) -> None:
    """Delete the chunks of a deleted file that were stored after the server had deleted its chunks."""
    client = open_webui.vectors.get_vector_db_client()
    for collection in {f"file-{task.file_id}", task.collection_name, task.knowledge_id} - {None}:
        name = str(collection)
        delete_chunks(client, name, sorted(find_chunk_ids(client, name, task.file_id)))
