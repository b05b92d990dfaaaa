"""The watcher: finds files that Open WebUI left unfinished, and processes them again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import Literal

from emberq.errors import EmberqError, InvalidRequest
from emberq.openwebui.sidecar.attempts import Attempts, AttemptsFile
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.errors import OpenWebUIRefused, OpenWebUIUnavailable
from emberq.openwebui.sidecar.file_locks import FileLocks
from emberq.openwebui.sidecar.policy import Decision, Policy, decide
from emberq.openwebui.sidecar.records import StoredFile
from emberq.openwebui.sidecar.reprocess import reprocess
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Shortest pause in seconds before the next sweep of `run_once`.
_MIN_PAUSE_SECONDS = 1.0

_Outcome = Literal["completed", "failed", "gave_up", "at_work", "waiting", "gone"]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a sweep for one unfinished file.

    Attributes:
        file_id: The file's id.
        name: The file's name.
        outcome: `at_work`: the server may be processing it. `waiting`: the next attempt is due later.
            `failed`: it failed because of its content. `gone`: it was deleted.
        attempts: Number of attempts so far.
        reason: Why it counted as unfinished, and the error of its latest attempt.
    """

    file_id: str
    name: str
    outcome: _Outcome
    attempts: int
    reason: str

    def as_dict(self) -> dict[str, object]:
        """Return the report for JSON."""
        return asdict(self)


class Watcher:
    """Processes unfinished files again until they have ended.

    Invariant: an attempt is counted on the disk before it begins.

    Attributes:
        stop: Set it to stop between two files.
    """

    def __init__(
        self,
        client: OpenWebUIClient,
        attempts: AttemptsFile,
        policy: Policy,
        *,
        locks: FileLocks,
        concurrency: int = 2,
    ) -> None:
        """Prepare a watcher with an admin's client; the locks keep imports from processing the same file."""
        self.stop = Event()
        self._client = client
        self._attempts = attempts
        self._policy = policy
        self._locks = locks
        self._concurrency = concurrency
        self._linked: dict[str, set[str]] = {}

    def run_once(self) -> list[Report]:
        """Sweep until no further attempt is due, waiting for the delays between attempts.

        Raises:
            OpenWebUIUnavailable: If the server does not list its files.
        """
        reports: dict[str, Report] = {}
        while True:
            found = self._sweep()
            reports |= {report.file_id: report for report, _ in found}
            due_times = [due_at for report, due_at in found if report.outcome == "waiting"]
            if not due_times or self.stop.is_set():
                return list(reports.values())
            self.stop.wait(max(_MIN_PAUSE_SECONDS, min(due_times) - self._client.server_time()))

    def watch(self, interval: float) -> None:
        """Sweep every `interval` seconds until `stop` is set, also over outages of the server."""
        while not self.stop.is_set():
            try:
                self._sweep()
            except OpenWebUIUnavailable as exc:
                log.warning("openwebui_unavailable", error=exc.message)
            self.stop.wait(interval)

    def _sweep(self) -> list[tuple[Report, float]]:
        """Process the files that are due; return a report for each, and when its next attempt is due."""
        self._linked = {}
        files = list(self._client.files())
        self._attempts.keep_only({file.id for file in files})
        unfinished = [(file, decision) for file in files if (decision := self._decide(file)) is not None]
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(lambda pair: self._act(*pair), unfinished))

    def _decide(self, file: StoredFile) -> Decision | None:
        """Decide what to do with a file; None if it has ended."""
        past = self._attempts.get(file.id)
        if past.knowledge_id and file.id in self._files_in(past.knowledge_id):
            past = replace(past, knowledge_id="")
        decision = decide(file, past, self._policy, self._client.server_time())
        if decision.action != "none":
            return decision
        self._attempts.delete(file.id)
        return None

    def _act(self, file: StoredFile, decision: Decision) -> tuple[Report, float]:
        past, reason = self._attempts.get(file.id), decision.reason
        if decision.action == "leave_alone":
            return Report(file.id, file.name, "at_work", past.count, reason), decision.at
        if decision.action == "wait" or self.stop.is_set():
            return Report(file.id, file.name, "waiting", past.count, reason), decision.at
        if decision.action == "give_up":
            if not past.is_given_up:
                log.error("openwebui_file_given_up", file_id=file.id, file=file.name, reason=reason)
                self._attempts.put(file.id, replace(past, is_given_up=True))
            return Report(file.id, file.name, "gave_up", past.count, reason), decision.at
        with self._locks.try_lock(file.id) as is_locked:
            if not is_locked:
                reason = f"{reason}; an import is processing it"
                return Report(file.id, file.name, "at_work", past.count, reason), decision.at
            return self._reprocess(file, past, reason)

    def _reprocess(self, file: StoredFile, past: Attempts, reason: str) -> tuple[Report, float]:
        knowledge_id = past.knowledge_id or file.knowledge_id
        if knowledge_id and file.id in self._files_in(knowledge_id):
            knowledge_id = ""
        log.info(
            "openwebui_file_reprocessing",
            file_id=file.id,
            file=file.name,
            attempt=past.count + 1,
            reason=reason,
        )
        attempts, error = reprocess(
            self._client,
            file,
            past,
            knowledge_id=knowledge_id,
            save=lambda attempts: self._attempts.put(file.id, attempts),
        )
        if error is None:
            self._attempts.delete(file.id)
            return self._report(file, attempts, "completed", reason)
        self._attempts.put(file.id, attempts)
        if isinstance(error, OpenWebUIUnavailable):
            outcome: _Outcome = "waiting" if error.had_no_effect else "at_work"
            return self._report(file, attempts, outcome, reason, error)
        return self._report_refusal(file, attempts, reason, error)

    def _report_refusal(
        self, file: StoredFile, attempts: Attempts, reason: str, error: EmberqError
    ) -> tuple[Report, float]:
        """Report an attempt that the server refused, and forget the file if it has ended."""
        now = self._client.file(file.id)
        if now is None:
            self._attempts.delete(file.id)
            return self._report(file, attempts, "gone", reason, error)
        decision = decide(now, attempts, self._policy, self._client.server_time())
        if decision.action == "none":
            self._attempts.delete(file.id)
            return self._report(file, attempts, "failed", reason, error)
        if decision.action == "give_up":
            return self._act(now, decision)
        return self._report(file, attempts, "waiting", reason, error, due_at=decision.at)

    def _report(
        self,
        file: StoredFile,
        attempts: Attempts,
        outcome: _Outcome,
        reason: str,
        error: EmberqError | None = None,
        *,
        due_at: float = 0.0,
    ) -> tuple[Report, float]:
        if error is not None:
            reason = f"{reason}; then: {error.message}"
        has_ended = outcome in ("completed", "failed", "gone")
        log.info(
            "openwebui_file_ended" if has_ended else "openwebui_file_unfinished",
            file_id=file.id,
            file=file.name,
            outcome=outcome,
            attempt=attempts.count,
            reason=reason,
        )
        return Report(file.id, file.name, outcome, attempts.count, reason), due_at

    def _files_in(self, knowledge_id: str) -> set[str]:
        """Return the ids of a knowledge base's files, requested once per sweep; none if it does not exist."""
        if knowledge_id not in self._linked:
            try:
                self._linked[knowledge_id] = {file.id for file in self._client.files_in(knowledge_id)}
            except (OpenWebUIRefused, InvalidRequest):
                self._linked[knowledge_id] = set()
        return self._linked[knowledge_id]
