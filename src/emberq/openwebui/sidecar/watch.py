"""The rescuer: brings files to an end that Open WebUI left in the middle of their way."""

from __future__ import annotations

from collections.abc import Callable
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
from emberq.telemetry.logs import get_logger

__all__ = ["Report", "Watcher", "begin_again"]

log = get_logger(__name__)

#: Seconds between two looks at the clock while the next attempt's time has not come.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one file that had not ended.

    Attributes:
        file_id: The file.
        name: Its name.
        outcome: `at_work` is a file that the server may still work on, `waiting` one whose next attempt
            comes later, `failed` one that ended for a reason of its own.
        attempts: How often it was begun again, in all.
        reason: Why it was looked at, and how its latest attempt ended.
    """

    file_id: str
    name: str
    outcome: Literal["completed", "failed", "gave_up", "at_work", "waiting", "gone"]
    attempts: int
    reason: str

    def as_dict(self) -> dict[str, object]:
        """Return the report as JSON takes it."""
        return asdict(self)


def begin_again(
    client: OpenWebUIClient,
    file: StoredFile,
    *,
    knowledge_id: str = "",
    may_be_indexed: bool = False,
    at_step: Callable[[], None] = lambda: None,
) -> None:
    """Process a file again and put it into a knowledge base; returns when both are done.

    Args:
        client: The server.
        file: The file.
        knowledge_id: Where it has to be linked; it must not be linked there already.
        may_be_indexed: Whether the knowledge base may have chunks of it from an attempt that broke off.
        at_step: Called before each request that may take long.

    Raises:
        OpenWebUIRefused: If the server says that it cannot be processed.
        OpenWebUIUnavailable: If the answer did not come.
    """
    if file.status != "completed":
        at_step()
        client.process(file.id)
        text = client.text_of(file.id)
        if text.strip() and not client.has_chunks(file.id):
            # The server died between making the file's collection and filling it, and keeps what is there.
            at_step()
            client.process(file.id, text)
    if knowledge_id:
        at_step()
        client.link(knowledge_id, file.id)
        if may_be_indexed:
            at_step()
            client.relink(knowledge_id, file.id)


class Watcher:
    """Looks for files that got stuck and brings them to an end.

    Invariant: an attempt is counted, on the disk, before it begins.
    """

    def __init__(
        self,
        client: OpenWebUIClient,
        attempts: AttemptsFile,
        policy: Policy,
        *,
        claims: FileLocks,
        concurrency: int = 2,
    ) -> None:
        """Prepare a rescuer.

        Args:
            client: The server, as an admin.
            attempts: What was tried before.
            policy: When a file is begun again.
            claims: Keeps an import from working on the same file.
            concurrency: Files at once.
        """
        self._client = client
        self._attempts = attempts
        self._policy = policy
        self._claims = claims
        self._concurrency = concurrency
        self._linked: dict[str, set[str]] = {}
        #: Set to stop between two files.
        self.stop = Event()

    def sweep(self) -> list[Report]:
        """Look at every file once, and begin again those whose time has come; one report for each unfinished.

        Raises:
            OpenWebUIUnavailable: If the server does not list its files.
        """
        return [report for report, _ in self._sweep()]

    def run_once(self) -> list[Report]:
        """Sweep until nothing is left to begin again; pauses between attempts are waited for.

        Raises:
            OpenWebUIUnavailable: If the server does not list its files.
        """
        ended: dict[str, Report] = {}
        while True:
            found = self._sweep()
            ended |= {report.file_id: report for report, _ in found}
            times = [decision.at for report, decision in found if report.outcome == "waiting"]
            if not times or self.stop.is_set():
                return list(ended.values())
            self.stop.wait(max(_PATIENCE_SECONDS, min(times) - self._client.server_time()))

    def watch(self, interval: float) -> None:
        """Sweep every `interval` seconds until `stop` is set; a server that is away is waited for."""
        while not self.stop.is_set():
            try:
                self.sweep()
            except OpenWebUIUnavailable as exc:
                log.warning("openwebui_away", error=exc.message)
            self.stop.wait(interval)

    def _sweep(self) -> list[tuple[Report, Decision]]:
        self._linked = {}
        files = list(self._client.files())
        self._attempts.keep_only({file.id for file in files})
        unfinished = [one for file in files if (one := self._look(file)) is not None]
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(lambda one: self._treat(*one), unfinished))

    def _look(self, file: StoredFile) -> tuple[StoredFile, Decision] | None:
        """Decide about a file; nothing if it has ended."""
        past = self._attempts.get(file.id)
        if past.linking and file.id in self._files_in(past.linking):
            past = replace(past, linking="")
        decision = decide(file, past, self._policy, self._client.server_time())
        if decision.act != "none":
            return file, decision
        self._attempts.put(file.id, None)
        return None

    def _treat(self, file: StoredFile, decision: Decision) -> tuple[Report, Decision]:
        past = self._attempts.get(file.id)
        if decision.act == "leave":
            return Report(file.id, file.name, "at_work", past.count, decision.reason), decision
        if decision.act == "wait" or self.stop.is_set():
            return Report(file.id, file.name, "waiting", past.count, decision.reason), decision
        if decision.act == "give_up":
            if not past.is_given_up:
                log.error("openwebui_file_given_up", file_id=file.id, file=file.name, reason=decision.reason)
                self._attempts.put(file.id, replace(past, is_given_up=True))
            return Report(file.id, file.name, "gave_up", past.count, decision.reason), decision
        with self._claims.take(file.id) as is_ours:
            if not is_ours:
                reason = f"{decision.reason}; an import is at it"
                return Report(file.id, file.name, "at_work", past.count, reason), decision
            return self._attempt(file, past, decision.reason)

    def _attempt(self, file: StoredFile, past: Attempts, reason: str) -> tuple[Report, Decision]:
        target = past.linking or file.knowledge_id
        if target and file.id in self._files_in(target):
            target = ""
        begun = Attempts(past.count + 1, self._client.server_time(), linking=target)

        def at_step() -> None:
            self._attempts.put(file.id, replace(begun, started_at=self._client.server_time()))

        at_step()
        log.info(
            "openwebui_file_begun_again", file_id=file.id, file=file.name, attempt=begun.count, reason=reason
        )
        try:
            begin_again(
                self._client,
                file,
                knowledge_id=target,
                may_be_indexed=bool(file.text_hash) or past.count > 0,
                at_step=at_step,
            )
        except OpenWebUIUnavailable as exc:
            if exc.is_unheard:  # the server has not seen it: that was no attempt at the file
                begun = replace(begun, count=past.count, started_at=past.started_at)
                self._attempts.put(file.id, replace(begun, ended_at=self._client.server_time()))
            return self._tell(file, begun, "waiting" if exc.is_unheard else "at_work", reason, exc)
        except EmberqError as exc:
            ended = replace(begun, ended_at=self._client.server_time(), error=exc.message)
            self._attempts.put(file.id, ended)
            return self._conclude(file, ended, reason, exc)
        self._attempts.put(file.id, None)
        return self._tell(file, begun, "completed", reason)

    def _conclude(
        self, file: StoredFile, ended: Attempts, reason: str, error: EmberqError
    ) -> tuple[Report, Decision]:
        """Tell what an attempt that was refused means for the file."""
        now = self._client.file(file.id)
        if now is None:
            self._attempts.put(file.id, None)
            return self._tell(file, ended, "gone", reason, error)
        decision = decide(now, ended, self._policy, self._client.server_time())
        if decision.act == "none":
            self._attempts.put(file.id, None)
            return self._tell(file, ended, "failed", reason, error)
        if decision.act == "give_up":
            return self._treat(now, decision)
        return self._tell(file, ended, "waiting", reason, error, at=decision.at)

    def _tell(
        self,
        file: StoredFile,
        attempts: Attempts,
        outcome: Literal["completed", "failed", "at_work", "waiting", "gone"],
        reason: str,
        error: EmberqError | None = None,
        *,
        at: float = 0.0,
    ) -> tuple[Report, Decision]:
        why = reason if error is None else f"{reason}; then: {error.message}"
        log.info(
            "openwebui_file_ended"
            if outcome in ("completed", "failed", "gone")
            else "openwebui_file_unfinished",
            file_id=file.id,
            file=file.name,
            outcome=outcome,
            attempt=attempts.count,
            reason=why,
        )
        return Report(file.id, file.name, outcome, attempts.count, why), Decision("wait", why, at)

    def _files_in(self, knowledge_id: str) -> set[str]:
        """Return the ids of a knowledge base's files, asked for once a sweep; one that is gone has none."""
        if knowledge_id not in self._linked:
            try:
                self._linked[knowledge_id] = {one.id for one in self._client.files_in(knowledge_id)}
            except (OpenWebUIRefused, InvalidRequest):
                self._linked[knowledge_id] = set()
        return self._linked[knowledge_id]
