"""How files, jobs and workers should be, as plain data."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from emberq.errors import CorruptFile, EmberqError, InternalError, JobTimeout
from emberq.store.jobs.claim import Attempt

__all__ = [
    "ACTS",
    "DONE_BY_PEOPLE",
    "ENDED",
    "ERRORS",
    "FILES",
    "MAX_ATTEMPTS",
    "TENANTS",
    "WORKERS",
    "Hand",
    "Paper",
    "Work",
]

TENANTS = ("red", "blue")
FILES = (("red", "x"), ("red", "x"), ("red", "y"), ("blue", "x"))
WORKERS = ("one", "two")
MAX_ATTEMPTS = 2
ERRORS: dict[str, EmberqError] = {
    "bad file": CorruptFile(),
    "bad moment": JobTimeout(),
    "bug": InternalError(),
}
ACTS = ("progress", "commit", "horse dies", *ERRORS)
DONE_BY_PEOPLE = ("upload", "replace", "delete", "cancel", "retry")
ENDED = {"completed", "failed", "cancelled"}


@dataclass
class Work:
    """A job as it should be."""

    tenant: str
    file_id: uuid.UUID
    version: int
    content: str
    state: str = "pending"
    attempt: int = 0
    ticket: str = ""
    fence: int = 0
    told_cancelled: bool = False
    quarantined: bool = False
    reasons: list[str] = field(default_factory=list)

    def retry(self) -> None:
        self.state, self.attempt, self.told_cancelled, self.quarantined = "pending", 0, False, False

    def end(self, state: str, reason: str | None = None) -> None:
        self.state = state
        if reason is not None:
            self.reasons.append(reason)


@dataclass
class Paper:
    """A file as it should be."""

    file_id: uuid.UUID
    newest: uuid.UUID
    version: int = 1
    visible: str | None = None


@dataclass
class Hand:
    """A worker: what it holds, and the host it runs on."""

    host: uuid.UUID = field(default_factory=uuid.uuid4)
    attempt: Attempt | None = None
    ticket: str = ""
