"""What to do with a file that Open WebUI lists: decisions without requests.

Invariants:

- A file that changed less than `stuck_after` seconds ago, or was begun again so recently by an attempt whose
  end nobody saw, is left alone: the server may be at work on it, and two at once would store it twice.
- A file is begun again at most `max_attempts` times.
- What ended for a reason of its own (a damaged file, content that is there already) is not begun again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.records import StoredFile
from emberq.retry.backoff import Backoff

__all__ = ["Decision", "Policy", "decide", "is_cut_off", "is_duplicate"]

#: Pauses between two attempts at a file.
_BACKOFF = Backoff(first_seconds=5.0, longest_seconds=600.0)
#: How the error of a file begins or reads that was cut off on its way to or from a server. The words are
#: those of Open WebUI's loaders and of its HTTP libraries (requests, urllib3, aiohttp).
_CUT_OFF = re.compile(
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
    """When a file is begun again.

    Attributes:
        stuck_after: Seconds without a change after which a file in pending or processing is stuck.
        max_attempts: How often a file is begun again.
    """

    stuck_after: float
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one file.

    Attributes:
        act: `none`: it has ended. `leave`: the server may be at work. `wait`: its next attempt comes later.
            `run`: begin it again. `link`: only its place in the knowledge base is missing. `give_up`.
        reason: Why, as a sentence.
        at: When to look again, seconds since 1970; 0 if no time is known.
    """

    act: Literal["none", "leave", "wait", "run", "link", "give_up"]
    reason: str = ""
    at: float = 0.0


def is_cut_off(error: str) -> bool:
    """Tell whether a file's error is that of a connection or of a server that was away."""
    return bool(_CUT_OFF.search(error)) and not is_duplicate(error)


def is_duplicate(error: str) -> bool:
    """Tell whether Open WebUI refused a file because its knowledge base has the same text already."""
    return bool(_DUPLICATE.search(error))


def decide(file: StoredFile, past: Attempts, policy: Policy, now: float) -> Decision:
    """Decide what to do with a file.

    Args:
        file: As the server lists it; if it is linked to the knowledge base that `past` names, without that.
        past: What was tried with it before.
        policy: When a file is begun again.
        now: The server's time, seconds since 1970.
    """
    needs_link = bool(past.linking) and file.status == "completed"
    if file.status in ("none", "completed") and not needs_link:
        return Decision("none")
    if file.status == "failed" and not is_cut_off(file.error):
        return Decision("none", file.error)
    reason = _reason(file, now)
    busy_until = _busy_until(file, past, policy)
    if now < busy_until:
        unseen = f"; attempt {past.count} was begun and nobody saw its end" if past.is_open else ""
        return Decision("leave", reason + unseen, busy_until)
    if past.count >= policy.max_attempts:
        last = past.error or file.error
        told = f"{reason}; gave up after {past.count} attempts"
        return Decision("give_up", f"{told}: {last}" if last and last not in told else told)
    next_at = past.ended_at + _BACKOFF.pause_seconds(max(past.count, 1)) if past.ended_at else 0.0
    if now < next_at:
        return Decision("wait", reason, next_at)
    return Decision("link" if needs_link else "run", reason)


def _busy_until(file: StoredFile, past: Attempts, policy: Policy) -> float:
    """Return until when the server may be at work on a file."""
    begun_at = past.started_at if past.is_open else 0.0
    changed_at = file.updated_at if file.status in ("pending", "processing") else 0.0
    return max(begun_at, changed_at) + policy.stuck_after if begun_at or changed_at else 0.0


def _reason(file: StoredFile, now: float) -> str:
    if file.status == "failed":
        return f"failed by a broken connection ({file.error})"
    if file.status == "completed":
        return "processed, but not in its knowledge base yet"
    return f"{file.status} for {max(0, round(now - file.updated_at))} s without a change"
