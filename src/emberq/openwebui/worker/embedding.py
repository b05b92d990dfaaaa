"""One batch of texts to an embedding server: tried again while the server is only busy or away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable, EmberqError
from emberq.retry.backoff import Backoff
from emberq.telemetry.logs import get_logger
from emberq.worker.job.progress import report_waiting

__all__ = ["embed_batch"]

log = get_logger(__name__)

#: Seconds after which no further attempt at one batch begins.
_TOTAL_SECONDS = 60.0
#: Pauses between attempts.
_BACKOFF = Backoff(first_seconds=0.5, longest_seconds=16.0, jitter=0.5)
#: Longest pause that a server may ask for with Retry-After.
_MAX_ASKED_SECONDS = 30.0
#: Statuses of a server that is busy or away; any other refusal will be repeated.
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


async def embed_batch(send: Callable[[], Awaitable[Any]], *, engine: str) -> Any:
    """Send a batch, again and again while the server is busy or away.

    Args:
        send: Sends it once and returns the vectors.
        engine: Open WebUI's name of the engine; empty for a model in this process.

    Raises:
        EmbeddingUnavailable: If the server stayed busy or away.
        EmbeddingRejected: If it refused the request.
    """
    began_at, failures = time.monotonic(), 0
    while True:
        try:
            vectors = await send()
        except EmberqError:
            raise
        except Exception as exc:
            if not engine:
                raise
            failures += 1
            pause = _BACKOFF.pause_seconds(failures)
            # Also what the server asked for is spread, as it asked all jobs for the same.
            wait = max(pause, _asked_seconds(exc) + pause / 2)
            if not _may_pass(exc) or time.monotonic() + wait - began_at > _TOTAL_SECONDS:
                raise _named(exc) from None
            log.warning("embedding_retried", status=getattr(exc, "status", None), wait_seconds=round(wait, 2))
            report_waiting()
            await asyncio.sleep(wait)
        else:
            if vectors is None:
                raise EmbeddingRejected("The embedding server sent no vectors.")
            return vectors


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in _BUSY
    # A connection that was refused, broke or took too long; by name, as the client is Open WebUI's.
    return isinstance(error, (OSError, TimeoutError)) or any(
        base.__module__.partition(".")[0] in ("aiohttp", "requests", "urllib3")
        and base.__name__ in ("ClientConnectionError", "ClientPayloadError", "ConnectionError", "Timeout")
        for base in type(error).__mro__
    )


def _named(error: Exception) -> EmberqError:
    status = _status(error)
    if status is not None and status not in _BUSY:
        what = {401: "refused its key", 403: "refused its key", 404: "does not know the model or the address"}
        return EmbeddingRejected(
            f"The embedding server {what.get(status, 'refused the request')} (HTTP {status}).",
            hint="Check the embedding model, base URL and key.",
        )
    if _may_pass(error):
        answer = f"HTTP {status}" if status is not None else "no connection"
        return EmbeddingUnavailable(
            f"The embedding server did not answer for {_TOTAL_SECONDS:.0f} seconds ({answer}).",
            hint="Check that the server named in the embedding settings runs.",
        )
    return EmbeddingRejected(f"The embedding server's answer could not be read ({type(error).__name__}).")


def _status(error: Exception) -> int | None:
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status > 0 else None


def _asked_seconds(error: Exception) -> float:
    headers = getattr(error, "headers", None) or {}
    try:
        return min(max(float(headers.get("Retry-After", 0)), 0.0), _MAX_ASKED_SECONDS)
    except (TypeError, ValueError):
        return 0.0
