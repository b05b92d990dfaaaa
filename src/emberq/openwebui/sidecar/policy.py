"""The policy for unfinished files: when a file is processed again. Decides only, sends no requests.

Invariants:

- A file that changed less than `stuck_after` seconds ago is left alone, and so is one whose latest attempt
  began so recently and has no known end. The server may be processing it, and processing it twice at the
  same time would store its chunks twice.
- A file is processed again at most `max_attempts` times.
- A file that failed because of its content (damaged, or a duplicate) is not processed again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.records import StoredFile
from emberq.retry.backoff import Backoff

#: Pauses between two attempts at a file.
_BACKOFF = Backoff(first_seconds=5.0, longest_seconds=600.0)
#: Errors of files that failed because a server could not be reached or broke off. The wording is that of
#: Open WebUI's loaders and of its HTTP libraries (requests, urllib3, aiohttp).
_OUTAGE = re.compile(
    r"Error connecting to endpoint"
    r"|Error loading document: (?:429|50[234])\b"
    r"|\b(?:429|50[234]), message="
    r"|\b50[234] Server Error"
    r"|Error calling \w+: (?:Bad Gateway|Service Unavailable|Gateway Time-?out)"
    r"|Cannot connect to host|Server disconnected|Connection timeout to host|Connection lost"
    r"|Can not write request body|Cannot write to closing transport|Response payload is not completed"
    r"|Timeout on reading data from socket|Max retries exceeded with url|Response ended prematurely"
    r"|Connection (?:aborted|broken|closed|refused|reset)|Broken pipe|RemoteDisconnected|Read timed out",
    re.IGNORECASE,
)
_DUPLICATE = re.compile(r"duplicate content", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits for processing a file again.

    Attributes:
        stuck_after: Seconds without a change after which a pending or processing file counts as stuck.
        max_attempts: How often a file is processed again.
    """

    stuck_after: float
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one file.

    Attributes:
        action: `none`: the file has ended. `leave_alone`: the server may be processing it. `wait`: the next
            attempt is due later. `reprocess`: process it again. `link`: link it to its knowledge base.
            `give_up`: no further attempt.
        reason: Why, for people.
        at: When to decide again, seconds since 1970; 0 if there is no such time.
    """

    action: Literal["none", "leave_alone", "wait", "reprocess", "link", "give_up"]
    reason: str = ""
    at: float = 0.0


def is_outage(error: str) -> bool:
    """Return whether a file's error is that of a broken connection or of a server that was down."""
    return bool(_OUTAGE.search(error)) and not is_duplicate(error)


def is_duplicate(error: str) -> bool:
    """Return whether Open WebUI refused a file because its knowledge base already has the same text."""
    return bool(_DUPLICATE.search(error))


def decide(file: StoredFile, past: Attempts, policy: Policy, now: float) -> Decision:
    """Decide what to do with a file.

    Args:
        file: The file as the server lists it.
        past: Earlier attempts; with `knowledge_id`, the file is not yet linked to that knowledge base.
        policy: The limits.
        now: The server's time, seconds since 1970.
    """
    is_unlinked = bool(past.knowledge_id) and file.status == "completed"
    if file.status in ("none", "completed") and not is_unlinked:
        return Decision("none")
    if file.status == "failed" and not is_outage(file.error):
        return Decision("none", file.error)
    reason = _reason(file, now)
    busy_until = _busy_until(file, past, policy)
    if now < busy_until:
        open_attempt = f"; attempt {past.count} was started and its end was not seen" if past.is_open else ""
        return Decision("leave_alone", reason + open_attempt, busy_until)
    if past.count >= policy.max_attempts:
        reason = f"{reason}; gave up after {past.count} attempts"
        error = past.error or file.error
        return Decision("give_up", f"{reason}: {error}" if error and error not in reason else reason)
    due_at = past.ended_at + _BACKOFF.pause_seconds(max(past.count, 1)) if past.ended_at else 0.0
    if now < due_at:
        return Decision("wait", reason, due_at)
    return Decision("link" if is_unlinked else "reprocess", reason)


def _busy_until(file: StoredFile, past: Attempts, policy: Policy) -> float:
    """Return until when the server may be processing a file."""
    started_at = past.started_at if past.is_open else 0.0
    changed_at = file.updated_at if file.status in ("pending", "processing") else 0.0
    return max(started_at, changed_at) + policy.stuck_after if started_at or changed_at else 0.0


def _reason(file: StoredFile, now: float) -> str:
    if file.status == "failed":
        return f"failed because of a broken connection ({file.error})"
    if file.status == "completed":
        return "processed, but not yet linked to its knowledge base"
    return f"{file.status} for {max(0, round(now - file.updated_at))} s without a change"
