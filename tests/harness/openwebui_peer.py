"""A process with Open WebUI's own tables, in its own environment.

Run by Open WebUI's Python. Reads one JSON request a line, answers with one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any


class Peer:
    """The functions that tests call by name."""

    def __init__(self) -> None:
        """Import Open WebUI, which brings its schema up to date."""
        from open_webui import config
        from open_webui.internal import db
        from open_webui.models import config as settings
        from open_webui.models import files, knowledge, users

        self.config, self.db, self.settings = config, db, settings
        self.files, self.knowledge, self.users = files, knowledge, users

    async def seed(self) -> None:
        """Write the configuration's defaults, as the server does at its first start."""
        await self.settings.Config.seed_defaults(self.config.DEFAULT_CONFIG)

    async def configure(self, **values: Any) -> None:
        """Change the configuration as the admin's page does."""
        await self.settings.Config.upsert({key.replace("__", "."): value for key, value in values.items()})

    async def user(self, role: str = "user") -> str:
        """Make a user."""
        user_id = str(uuid.uuid4())
        await self.users.Users.insert_new_user(user_id, "Test", f"{user_id}@example.org", role=role)
        return user_id

    async def upload(self, user_id: str, name: str, text: str) -> str:
        """Store a file as an upload does, without processing it."""
        file_id = str(uuid.uuid4())
        path = Path(os.environ["DATA_DIR"]) / "uploads" / f"{file_id}_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        kind = "text/plain" if name.endswith(".txt") else "application/octet-stream"
        meta = {"name": name, "content_type": kind, "size": len(text), "data": {}}
        form = self.files.FileForm(
            id=file_id, filename=name, path=str(path), data={"status": "pending"}, meta=meta
        )
        await self.files.Files.insert_new_file(user_id, form)
        return file_id

    async def delete(self, file_id: str) -> None:
        """Delete a file's row."""
        await self.files.Files.delete_file_by_id(file_id)

    async def row(self, file_id: str) -> dict[str, Any] | None:
        """Return a file's row."""
        found = await self.files.Files.get_file_by_id(file_id)
        return None if found is None else found.model_dump()

    async def base(self, user_id: str) -> str:
        """Make a knowledge base."""
        form = self.knowledge.KnowledgeForm(name="Base", description="", access_grants=[])
        made = await self.knowledge.Knowledges.insert_new_knowledge(user_id, form)
        return str(made.id)

    async def linked(self, knowledge_id: str) -> list[str]:
        """Return the files of a knowledge base."""
        return [one.id for one in await self.knowledge.Knowledges.get_files_by_id(knowledge_id)]

    async def bare(self, file_id: str) -> float:
        """Process a file in this process, as the server does; returns the seconds it took."""
        from types import SimpleNamespace

        from open_webui.routers import retrieval

        state = SimpleNamespace(main_loop=asyncio.get_running_loop(), ef=None, rf=None, redis=None)
        request = SimpleNamespace(app=SimpleNamespace(state=state), state=SimpleNamespace(), headers={})
        began_at = time.perf_counter()
        file = await self.files.Files.get_file_by_id(file_id)
        user = await self.users.Users.get_user_by_id(file.user_id)
        async with self.db.get_async_db_context() as session:
            await self.files.Files.update_file_data_by_id(file_id, {"status": "processing"}, db=session)
            await retrieval.index_file(request, retrieval.ProcessFileForm(file_id=file_id), user, session)
            done = {"status": "completed", "error": None}
            await self.files.Files.update_file_data_by_id(file_id, done, db=session)
        return time.perf_counter() - began_at

    async def pid(self) -> int:
        """Return the process's id."""
        return os.getpid()

    async def local_model(self, directory: str) -> None:
        """Make a small SentenceTransformer with weights by chance."""
        from sentence_transformers import SentenceTransformer, models
        from tokenizers import Tokenizer, pre_tokenizers
        from tokenizers.models import WordLevel
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        words = {word: at for at, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"))}
        tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        base = f"{directory}-base"
        sizes = {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
        }
        BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(base)
        names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **names).save_pretrained(
            base
        )
        SentenceTransformer(modules=[models.Transformer(base), models.Pooling(64)]).save(directory)


async def main() -> None:
    """Serve requests until the input ends."""
    # Its import writes to the standard output; answers must stand alone there.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = Peer()
    out.write(json.dumps({"ready": True}) + "\n")
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = {"answer": await getattr(peer, asked["call"])(*asked["args"], **asked["kwargs"])}
        except Exception as exc:  # noqa: BLE001 - told to the test
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        out.write(json.dumps(answer, default=str) + "\n")


asyncio.run(main())
