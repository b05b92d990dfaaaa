"""One client's calls: each is sent until it is answered, and both are written into the history."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.campaign.documents import read_lines, write_document
from tests.chaos.campaign.history import History
from tests.chaos.campaign.system import COLLECTION, System

__all__ = ["Caller", "File", "Pulse"]

#: Seconds before an operation that got no answer, or was told to come again, is sent again.
_AGAIN_SECONDS = 0.2
#: Seconds after which a client that stops gives an unanswered operation up.
_GIVE_UP_SECONDS = 60.0
#: Most results of a search by name; more than any file has chunks.
_ALL_CHUNKS = 100
_ENDED = ("completed", "failed", "cancelled")


class Pulse:
    """When the API last did what it was asked."""

    def __init__(self) -> None:
        #: Monotonic seconds at which the newest acknowledged write was sent.
        self.sent_at = 0.0

    def acknowledged(self, sent_at: float) -> None:
        """Take note of an acknowledged write."""
        self.sent_at = max(self.sent_at, sent_at)


@dataclass(slots=True)
class File:
    """What its one writer knows of a file."""

    name: str
    edition: int = 0
    file_id: str = ""
    job_id: str = ""
    is_deleted: bool = False
    #: Jobs that have not been seen to end.
    jobs: list[tuple[str, int]] = field(default_factory=list)


class Caller:
    """Sends one operation again and again until it is answered, and writes both into the history."""

    def __init__(self, system: System, history: History, pulse: Pulse, *, seed: str) -> None:
        """Use a running system; the seed makes the texts of its documents."""
        self._system = system
        self._history = history
        self._pulse = pulse
        self._seed = seed
        self._http = system.client()
        self.stop = threading.Event()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upload(self, file: File, *, lines: int, key: str | None = None) -> bool:
        """Upload the file's next edition, or the same again with a known key."""
        file.edition += 1
        content = write_document(file.name, file.edition, lines=lines, seed=self._seed)
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        answer = self.do(
            "upload",
            file.name,
            lambda http: http.post(
                f"/collections/{COLLECTION}/files",
                files={"file": (f"{file.name}.txt", content)},
                data={"external_id": file.name},
                headers=headers,
            ),
            edition=file.edition,
            lines=lines,
        )
        if answer is None or not answer.is_success:
            return False
        file.file_id, file.job_id = answer.json()["file"]["id"], answer.json()["job"]["id"]
        file.is_deleted = False
        file.jobs.append((file.job_id, file.edition))
        return True

    def look(self, file: File, job_id: str, edition: int) -> bool:
        """Look at a job once; an end is written down."""
        try:
            asked_at = time.monotonic()
            answer = self._http.get(f"/jobs/{job_id}")
        except httpx.TransportError:
            return False
        if not answer.is_success or answer.json()["state"] not in _ENDED:
            return False
        job = answer.json()
        number = self._history.ask("job", file.name, edition=edition, job_id=job_id, asked_at=asked_at)
        self._history.answer(number, answer.status_code, state=job["state"], attempt=job["attempt"])
        return True

    def read(self, file: str, *, mode: str) -> None:
        """Search for a file by its name, or fetch nothing if the API is away."""
        number = self._history.ask("search", file, mode=mode)
        body = {"query": file, "k": _ALL_CHUNKS if mode == "keyword" else 20, "mode": mode}
        with contextlib.suppress(httpx.TransportError):
            answer = self._http.post(f"/collections/{COLLECTION}/search", json=body)
            if answer.is_success:
                texts = [result["text"] for result in answer.json()["results"]]
                self._history.answer(number, answer.status_code, seen=_seen(texts))

    def read_text(self, file: File) -> None:
        """Fetch a file's text; it may be gone by now."""
        number = self._history.ask("text", file.name)
        with contextlib.suppress(httpx.TransportError):
            answer = self._http.get(f"/files/{file.file_id}/text")
            if answer.is_success:
                self._history.answer(number, answer.status_code, seen=_seen([answer.text]))

    def do(
        self, kind: str, file: str, send: Callable[[httpx.Client], httpx.Response], **asked: Any
    ) -> httpx.Response | None:
        """Send a write until it is answered for good; nothing if it never was."""
        number = self._history.ask(kind, file, **asked)
        give_up_at = float("inf")
        tries = 0
        while time.monotonic() < give_up_at:
            if self.stop.is_set():
                give_up_at = min(give_up_at, time.monotonic() + _GIVE_UP_SECONDS)
            sent_at, tries = time.monotonic(), tries + 1
            try:
                answer = send(self._http)
            except httpx.TransportError:
                time.sleep(_AGAIN_SECONDS)
                continue
            if answer.status_code >= 500 or answer.status_code == 429:
                time.sleep(_AGAIN_SECONDS)
                continue
            self._pulse.acknowledged(sent_at)
            ids = answer.json() if answer.content and answer.is_success else {}
            shown = {name: ids[name]["id"] for name in ("file", "job") if name in ids}
            self._history.answer(number, answer.status_code, tries=tries, **shown)
            return answer
        return None


def _seen(texts: list[str]) -> dict[str, dict[str, list[int]]]:
    """Return the line numbers seen, by file and edition, in the order in which they were read."""
    found: dict[str, dict[str, list[int]]] = {}
    for text in texts:
        for line in read_lines(text):
            found.setdefault(line.file, {}).setdefault(str(line.edition), []).append(line.number)
    return found
