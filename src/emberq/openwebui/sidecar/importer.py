"""The import: a folder's files into a knowledge base, each once, whatever is killed meanwhile.

The server's own list is the journal: every upload carries its path and sha256 in the client's metadata, and
an import begins and ends by comparing the folder with that list.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Literal

from emberq.errors import EmberqError
from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable
from emberq.openwebui.sidecar.file_locks import FileLocks
from emberq.openwebui.sidecar.policy import Policy, decide, is_duplicate
from emberq.openwebui.sidecar.reconcile import LocalFile, Plan, Step, make_plan
from emberq.openwebui.sidecar.records import IMPORT_MARK, Knowledge, StoredFile
from emberq.openwebui.sidecar.watch import begin_again

__all__ = ["ImportResult", "Importer"]

#: Seconds between two looks at a file that is being processed: more and more, up to the longest.
_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.2, 2.0
#: Seconds a server that is away is waited for.
_PATIENCE_SECONDS = 300.0
#: How often, and with how many seconds between, an upload is looked for whose answer was lost.
_LOOKS, _LOOK_SECONDS = 3, 1.0
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of one file of the folder.

    Attributes:
        path: Its path below the folder.
        state: `same_content`: the knowledge base has these bytes, or this text, already under another name.
            `stopped`: the import was stopped before its end was seen.
        file_id: Its id in Open WebUI; empty if it has none of its own there.
        reason: For `failed` and `same_content`: why, as a sentence.
    """

    path: str
    state: Literal["imported", "already_there", "same_content", "failed", "stopped"]
    file_id: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the outcome as JSON takes it."""
        return asdict(self)


class _Stopped(Exception):
    """The import was told to stop."""


class Importer:
    """One import of a folder into a knowledge base.

    Invariant: at most `concurrency` uploads of this import are unfinished on the server.
    """

    def __init__(
        self,
        client: OpenWebUIClient,
        knowledge: Knowledge,
        folder: Path,
        *,
        policy: Policy,
        claims: FileLocks,
        concurrency: int = 4,
    ) -> None:
        """Prepare an import.

        Args:
            client: The server, as the account whose files they shall be.
            knowledge: Where they shall be linked.
            folder: The folder.
            policy: When a file that got stuck or was cut off is begun again.
            claims: Keeps a watcher from working on the same file.
            concurrency: Files at once.
        """
        self._client = client
        self._knowledge = knowledge
        self._folder = folder
        self._policy = policy
        self._claims = claims
        self._concurrency = concurrency
        #: Called with each file's outcome as soon as it is known, from any thread.
        self.tell: Callable[[ImportResult], None] = lambda _: None
        #: Set to stop: what was uploaded goes on in the server.
        self.stop = Event()

    def run(self, paths: Sequence[str]) -> list[ImportResult]:
        """Bring in the files of these paths below the folder, and return what became of each, in their order.

        Raises:
            OpenWebUIUnavailable: If the server is away when the folder is compared with it.
        """
        with ThreadPoolExecutor(self._concurrency) as pool:
            read = list(pool.map(self._read, paths))
            folder = [one for one in read if isinstance(one, LocalFile)]
            outcomes = {one.path: one for one in read if isinstance(one, ImportResult)}
            plan = self._compare(folder)
            self._drop_extras(plan)
            # What takes another's place first: the folder may have the older bytes under another name now.
            for is_first in (True, False):
                steps = [step for step in plan.steps if bool(step.outdated) is is_first]
                outcomes |= {outcome.path: outcome for outcome in pool.map(self._take_and_tell, steps)}
            if not self.stop.is_set():
                outcomes |= {one.path: one for one in self._settle(folder, outcomes)}
        return [outcomes[path] for path in paths]

    def _read(self, path: str) -> LocalFile | ImportResult:
        try:
            with (self._folder / path).open("rb") as file:
                return LocalFile(path, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as exc:
            return ImportResult(path, "failed", reason=f"The file cannot be read: {exc.strerror}.")

    def _compare(self, folder: Sequence[LocalFile]) -> Plan:
        linked = list(self._client.files_in(self._knowledge.id))
        return make_plan(folder, self._client.files(own=True), linked, self._knowledge.id)

    def _settle(self, folder: Sequence[LocalFile], outcomes: dict[str, ImportResult]) -> list[ImportResult]:
        """Look once more: nothing may be there twice, and nothing imported be without its link."""
        plan = self._compare(folder)
        self._drop_extras(plan)
        return [
            self._take_step(step)
            for step in plan.steps
            if step.act in ("link", "follow") and outcomes[step.local.path].state == "imported"
        ]

    def _drop_extras(self, plan: Plan) -> None:
        """Delete further uploads of what is kept; an import was killed before it knew that the first came."""
        for extra, kept in plan.extras:
            try:
                ended = self._wait_for_end(extra)
            except _Stopped:
                return
            if ended is not None and ended.status in ("completed", "failed", "none"):
                self._remove(ended, kept)

    def _remove(self, file: StoredFile, kept: str) -> None:
        """Delete a file; what is kept of the same text loses its chunks with it and is indexed again."""
        linked = {one.id: one for one in self._client.files_in(self._knowledge.id)}
        self._client.delete_file(file.id)
        if file.id in linked and kept in linked and file.text_hash == linked[kept].text_hash:
            self._client.relink(self._knowledge.id, kept)

    def _take_and_tell(self, step: Step) -> ImportResult:
        outcome = self._take_step(step)
        self.tell(outcome)
        return outcome

    def _take_step(self, step: Step) -> ImportResult:
        path, file_id = step.local.path, step.file.id if step.file else ""
        try:
            outcome = self._do(step)
            if outcome.state in ("imported", "already_there"):
                for file in step.outdated:
                    self._remove(file, outcome.file_id)
        except _Stopped:
            outcome = ImportResult(path, "stopped", file_id)
        except EmberqError as exc:
            outcome = ImportResult(path, "failed", file_id, exc.message)
        except OSError as exc:
            outcome = ImportResult(path, "failed", file_id, f"The file cannot be read: {exc.strerror}.")
        return outcome

    def _do(self, step: Step) -> ImportResult:
        if step.act == "same":
            return ImportResult(
                step.local.path, "same_content", reason=f"The same bytes are there as {step.twin}."
            )
        if step.act == "present" and step.file is not None:
            return ImportResult(step.local.path, "already_there", step.file.id)
        self._check()
        file = step.file or self._upload(step.local)
        return self._finish(step.local.path, file, at_once=step.act in ("again", "link"))

    def _upload(self, local: LocalFile) -> StoredFile:
        """Upload a file once, also where an answer is lost; a server that is away is waited for."""
        mark = {"path": local.path, "sha256": local.sha256}
        path = self._folder / local.path
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._client.upload(
                    path, path.name, {"knowledge_id": self._knowledge.id, IMPORT_MARK: mark}
                )
            except OpenWebUIUnavailable as exc:
                if time.monotonic() > deadline:
                    raise
                if not exc.is_unheard and (found := self._find(local)) is not None:
                    return found
                self._pause(_LONGEST_LOOK_SECONDS)

    def _find(self, local: LocalFile) -> StoredFile | None:
        """Look for an upload whose answer was lost; the server may still be storing it."""
        wanted = (local.path, local.sha256, self._knowledge.id)
        for _ in range(_LOOKS):
            self._pause(_LOOK_SECONDS)
            try:
                for file in self._client.files(own=True, name=local.path.rsplit("/", 1)[-1]):
                    if (file.import_path, file.import_sha256, file.knowledge_id) == wanted:
                        return file
            except OpenWebUIUnavailable:
                continue
        return None

    def _finish(self, path: str, file: StoredFile, *, at_once: bool) -> ImportResult:
        """Bring an upload to its end, beginning again where it got stuck or was cut off.

        Args:
            path: The file's path below the folder.
            file: The upload.
            at_once: Whether to begin it again whatever its status is.
        """
        past = Attempts()
        while True:
            now = file if at_once else self._wait_for_end(file)
            if now is None:
                return ImportResult(path, "failed", file.id, "Somebody deleted it in Open WebUI meanwhile.")
            if not at_once:
                if now.status == "completed":
                    return ImportResult(path, "imported", file.id)
                if is_duplicate(now.error):
                    self._client.delete_file(file.id)
                    return ImportResult(
                        path, "same_content", reason="The same text is there under another name."
                    )
                decision = decide(now, past, self._policy, self._client.server_time())
                if decision.act in ("none", "give_up"):
                    return ImportResult(path, "failed", file.id, decision.reason or now.error)
                if decision.act in ("wait", "leave"):
                    self._pause(
                        min(_LONGEST_LOOK_SECONDS, max(0.1, decision.at - self._client.server_time()))
                    )
                    continue
            at_once = False
            past = self._begin_again(now, past)

    def _begin_again(self, file: StoredFile, past: Attempts) -> Attempts:
        """Begin a file again, unless another process is at it, and return the attempts with this one."""
        with self._claims.take(file.id) as is_ours:
            if not is_ours:
                self._pause(_LONGEST_LOOK_SECONDS)
                return past
            begun = Attempts(past.count + 1, self._client.server_time())
            try:
                begin_again(
                    self._client,
                    file,
                    knowledge_id=self._knowledge.id,
                    may_be_indexed=bool(file.text_hash) or past.count > 0,
                )
            except OpenWebUIUnavailable as exc:
                return past if exc.is_unheard else begun
            except OpenWebUIRefused as exc:
                if self._client.status_of(file.id) == "completed":
                    raise  # the knowledge base is what refused
                return replace(begun, ended_at=self._client.server_time(), error=exc.message)
            return replace(begun, ended_at=self._client.server_time())

    def _wait_for_end(self, file: StoredFile) -> StoredFile | None:
        """Wait until a file has ended, is stuck, or is gone (nothing), also while the server is away."""
        pause, heard_at = _FIRST_LOOK_SECONDS, time.monotonic()
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
                heard_at = time.monotonic()
            except OpenWebUIRefused as exc:
                if exc.answered == _NOT_FOUND:
                    return None
                raise
            except OpenWebUIUnavailable:
                if time.monotonic() - heard_at > _PATIENCE_SECONDS:
                    raise
            self._pause(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK_SECONDS)

    def _pause(self, seconds: float) -> None:
        self.stop.wait(seconds)
        self._check()

    def _check(self) -> None:
        if self.stop.is_set():
            raise _Stopped
