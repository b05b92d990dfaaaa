"""The import of one file: upload it once, wait for its end, and process it again if it got stuck."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable
from emberq.openwebui.sidecar.file_locks import FileLocks
from emberq.openwebui.sidecar.policy import Policy, decide, is_duplicate
from emberq.openwebui.sidecar.reconcile import LocalFile, Step
from emberq.openwebui.sidecar.records import IMPORT_KEY, StoredFile
from emberq.openwebui.sidecar.reprocess import reprocess

#: Seconds between two polls of a file's status: the first, and the upper bound of the growing interval.
_FIRST_POLL_SECONDS, _MAX_POLL_SECONDS = 0.2, 2.0
#: Seconds for which an unreachable server is waited for.
_OUTAGE_SECONDS = 300.0
#: Searches for an upload whose answer was lost, and the seconds before each.
_SEARCHES, _SEARCH_SECONDS = 3, 1.0
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result for one file of the folder.

    Attributes:
        path: Its path below the folder.
        state: `same_content`: the knowledge base already has these bytes, or this text, under another name.
            `stopped`: the import was stopped before the file's end was known.
        file_id: Its id in Open WebUI; empty if it has no file of its own there.
        reason: Why, for `failed` and `same_content`.
    """

    path: str
    state: Literal["imported", "already_there", "same_content", "failed", "stopped"]
    file_id: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the result for JSON."""
        return asdict(self)


class ImportStopped(Exception):
    """The import was stopped."""


class FileImporter:
    """Imports single files of a folder into a knowledge base; thread-safe.

    Each method raises `ImportStopped` when `stop` is set.
    """

    def __init__(
        self,
        client: OpenWebUIClient,
        knowledge_id: str,
        folder: Path,
        *,
        policy: Policy,
        locks: FileLocks,
        stop: Event,
    ) -> None:
        """Prepare imports; the arguments are those of `Importer`."""
        self._client = client
        self._knowledge_id = knowledge_id
        self._folder = folder
        self._policy = policy
        self._locks = locks
        self._stop = stop

    def run(self, step: Step) -> ImportResult:
        """Do what a step says, and return the result.

        Raises:
            EmberqError: If the server refuses a request, or stays away too long.
            OSError: If the file cannot be read.
        """
        path = step.local.path
        if step.action == "same_content":
            return ImportResult(path, "same_content", reason=f"The same bytes are there as {step.same_as}.")
        if step.action == "already_there" and step.upload is not None:
            return ImportResult(path, "already_there", step.upload.id)
        self._raise_if_stopped()
        file = step.upload or self._upload(step.local)
        return self._finish(path, file, is_due=step.action in ("reprocess", "link"))

    def wait_for_end(self, file: StoredFile) -> StoredFile | None:
        """Poll a file until it has ended or is stuck, also during an outage of the server.

        Returns:
            The file; None if it does not exist any more.

        Raises:
            OpenWebUIUnavailable: If the outage lasts too long.
        """
        interval, answered_at = _FIRST_POLL_SECONDS, time.monotonic()
        stuck_at = file.updated_at + self._policy.stuck_after
        while True:
            try:
                is_due = self._client.server_time() >= stuck_at
                if is_due or self._client.status_of(file.id) in ("completed", "failed"):
                    now = self._client.file(file.id)
                    if now is None or now.status not in ("pending", "processing"):
                        return now
                    stuck_at = now.updated_at + self._policy.stuck_after
                    if self._client.server_time() >= stuck_at:
                        return now
                answered_at = time.monotonic()
            except OpenWebUIRefused as exc:
                if exc.http_status == _NOT_FOUND:
                    return None
                raise
            except OpenWebUIUnavailable:
                if time.monotonic() - answered_at > _OUTAGE_SECONDS:
                    raise
            self._pause(interval)
            interval = min(interval * 1.5, _MAX_POLL_SECONDS)

    def _upload(self, local: LocalFile) -> StoredFile:
        """Upload a file exactly once, over outages and lost answers."""
        path = self._folder / local.path
        origin = {"path": local.path, "sha256": local.sha256}
        metadata = {"knowledge_id": self._knowledge_id, IMPORT_KEY: origin}
        deadline = time.monotonic() + _OUTAGE_SECONDS
        while True:
            try:
                return self._client.upload(path, path.name, metadata)
            except OpenWebUIUnavailable as exc:
                if time.monotonic() > deadline:
                    raise
                if not exc.had_no_effect and (found := self._find_upload(local)) is not None:
                    return found
                self._pause(_MAX_POLL_SECONDS)

    def _find_upload(self, local: LocalFile) -> StoredFile | None:
        """Search for an upload whose answer was lost; the server may still be storing it."""
        wanted = (local.path, local.sha256, self._knowledge_id)
        for _ in range(_SEARCHES):
            self._pause(_SEARCH_SECONDS)
            try:
                for file in self._client.files(own=True, name=local.path.rsplit("/", 1)[-1]):
                    if (file.import_path, file.import_sha256, file.knowledge_id) == wanted:
                        return file
            except OpenWebUIUnavailable:
                continue
        return None

    def _finish(self, path: str, file: StoredFile, *, is_due: bool) -> ImportResult:
        """Wait for an upload's end; process it again if it got stuck or failed in an outage."""
        past = Attempts()
        if is_due:
            past = self._reprocess(file, past)
        while True:
            now = self.wait_for_end(file)
            if now is None:
                reason = "It was deleted in Open WebUI during the import."
                return ImportResult(path, "failed", file.id, reason)
            if now.status == "completed":
                return ImportResult(path, "imported", file.id)
            if is_duplicate(now.error):
                self._client.delete_file(file.id)
                reason = "The same text is there under another name."
                return ImportResult(path, "same_content", reason=reason)
            decision = decide(now, past, self._policy, self._client.server_time())
            if decision.action in ("none", "give_up"):
                return ImportResult(path, "failed", file.id, decision.reason or now.error)
            if decision.action in ("wait", "leave_alone"):
                remaining = decision.at - self._client.server_time()
                self._pause(min(_MAX_POLL_SECONDS, max(0.1, remaining)))
            else:
                past = self._reprocess(now, past)

    def _reprocess(self, file: StoredFile, past: Attempts) -> Attempts:
        """Process a file again, unless another process has locked it, and return the attempts."""
        with self._locks.try_lock(file.id) as is_locked:
            if not is_locked:
                self._pause(_MAX_POLL_SECONDS)
                return past
            attempts, error = reprocess(self._client, file, past, knowledge_id=self._knowledge_id)
            if error is None or isinstance(error, OpenWebUIUnavailable):
                return attempts
            if isinstance(error, OpenWebUIRefused) and self._client.status_of(file.id) != "completed":
                return attempts
            # The knowledge base refuses the file, or the account is not allowed to do this.
            raise error

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise ImportStopped
