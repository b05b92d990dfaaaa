"""The import of a folder into a knowledge base: each file once, over kills of the import and of the server.

The server's listing is the journal. Each upload carries its path and sha256 in the client's metadata, and an
import compares the folder with the listing at its start and at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from emberq.errors import EmberqError
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.file_import import FileImporter, ImportResult, ImportStopped
from emberq.openwebui.sidecar.file_locks import FileLocks
from emberq.openwebui.sidecar.policy import Policy
from emberq.openwebui.sidecar.reconcile import LocalFile, Plan, Step, make_plan
from emberq.openwebui.sidecar.records import Knowledge, StoredFile


class Importer:
    """One import of a folder into a knowledge base.

    Invariant: at most `concurrency` uploads of this import are unfinished on the server.

    Attributes:
        on_result: Called with each file's result, from any thread.
        stop: Set it to stop the import; the server finishes what was uploaded.
    """

    def __init__(
        self,
        client: OpenWebUIClient,
        knowledge: Knowledge,
        folder: Path,
        *,
        policy: Policy,
        locks: FileLocks,
        concurrency: int = 4,
    ) -> None:
        """Prepare an import; the locks keep a watcher from processing the same file."""
        self.on_result: Callable[[ImportResult], None] = lambda _: None
        self.stop = Event()
        self._client = client
        self._knowledge_id = knowledge.id
        self._folder = folder
        self._concurrency = concurrency
        self._files = FileImporter(client, knowledge.id, folder, policy=policy, locks=locks, stop=self.stop)

    def run(self, paths: Sequence[str]) -> list[ImportResult]:
        """Import the files at these paths below the folder, and return their results in the same order.

        Raises:
            OpenWebUIUnavailable: If the server is away when the folder is compared with its listing.
        """
        with ThreadPoolExecutor(self._concurrency) as pool:
            read = list(pool.map(self._read, paths))
            folder = [local for local in read if isinstance(local, LocalFile)]
            results = {result.path: result for result in read if isinstance(result, ImportResult)}
            plan = self._compare(folder)
            self._delete_duplicates(plan)
            # Replacements first: the folder may have the replaced bytes under another name now.
            for replaces in (True, False):
                steps = [step for step in plan.steps if bool(step.outdated) is replaces]
                results |= {result.path: result for result in pool.map(self._run_and_report, steps)}
            if not self.stop.is_set():
                results |= {result.path: result for result in self._run_missed_steps(folder, results)}
        return [results[path] for path in paths]

    def _read(self, path: str) -> LocalFile | ImportResult:
        try:
            with (self._folder / path).open("rb") as file:
                return LocalFile(path, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as exc:
            return ImportResult(path, "failed", reason=f"The file cannot be read: {exc.strerror}.")

    def _compare(self, folder: Sequence[LocalFile]) -> Plan:
        linked = list(self._client.files_in(self._knowledge_id))
        return make_plan(folder, self._client.files(own=True), linked, self._knowledge_id)

    def _run_missed_steps(
        self, folder: Sequence[LocalFile], results: dict[str, ImportResult]
    ) -> list[ImportResult]:
        """Compare once more: delete duplicates, and link files that were imported without their link."""
        plan = self._compare(folder)
        self._delete_duplicates(plan)
        return [
            self._run(step)
            for step in plan.steps
            if step.action in ("link", "follow") and results[step.local.path].state == "imported"
        ]

    def _delete_duplicates(self, plan: Plan) -> None:
        """Delete redundant uploads; a killed import may not have known that its upload was received."""
        for duplicate, kept_id in plan.duplicates:
            try:
                ended = self._files.wait_for_end(duplicate)
            except ImportStopped:
                return
            if ended is not None and ended.status in ("completed", "failed", "none"):
                self._delete(ended, kept_id)

    def _delete(self, file: StoredFile, kept_id: str) -> None:
        """Delete a file, and index the kept one again if it has the same text.

        The server also deletes by the hash of the text, so the kept file loses its chunks as well.
        """
        linked = {one.id: one for one in self._client.files_in(self._knowledge_id)}
        self._client.delete_file(file.id)
        if file.id in linked and kept_id in linked and file.text_hash == linked[kept_id].text_hash:
            self._client.relink(self._knowledge_id, kept_id)

    def _run_and_report(self, step: Step) -> ImportResult:
        result = self._run(step)
        self.on_result(result)
        return result

    def _run(self, step: Step) -> ImportResult:
        path, file_id = step.local.path, step.upload.id if step.upload else ""
        try:
            result = self._files.run(step)
            if result.state in ("imported", "already_there"):
                for file in step.outdated:
                    self._delete(file, result.file_id)
        except ImportStopped:
            result = ImportResult(path, "stopped", file_id)
        except EmberqError as exc:
            result = ImportResult(path, "failed", file_id, exc.message)
        except OSError as exc:
            result = ImportResult(path, "failed", file_id, f"The file cannot be read: {exc.strerror}.")
        return result
