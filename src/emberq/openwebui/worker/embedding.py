"""A batch of texts for an embedding server: sending it, and again while the server is busy or away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import httpx

from emberq.config.environment import get_environment
from emberq.errors import EmbeddingRejected, EmbeddingUnavailable, EmberqError, SettingInvalid
from emberq.openwebui.worker.failures import TRANSIENT_STATUSES
from emberq.outbound.client import AnswerTooLarge, OutboundClient, TargetRefused
from emberq.retry.backoff import Backoff
from emberq.telemetry.logs import get_logger
from emberq.worker.job.progress import report_waiting

log = get_logger(__name__)

#: Seconds after which no further attempt at one batch begins.
_TOTAL_SECONDS = 60.0
#: Pauses between attempts.
_BACKOFF = Backoff(first_seconds=0.5, longest_seconds=16.0, jitter=0.5)
#: Seconds for one request to a tenant's server.
_REQUEST_SECONDS = 120.0
#: Largest answer for one text; a vector of 8192 numbers has 180 KB.
_MAX_VECTOR_BYTES = 256 * 1024
#: Longest pause in seconds that a server's Retry-After can ask for.
_MAX_RETRY_AFTER_SECONDS = 30.0


def embed_for_tenant(
    model: str, texts: list[str], url: str, key: str, *, prefix: Mapping[str, str] = MappingProxyType({})
) -> list[list[float]]:
    """Send a batch to the server in a tenant's settings, as Open WebUI would, but through the outbound door.

    Args:
        model: The model's name at the server.
        texts: The texts.
        url: The server's base URL.
        key: The tenant's key.
        prefix: A further field of the request, for models that tell queries and passages apart.

    Returns:
        The vectors, in the order of the texts.

    Raises:
        SettingInvalid: If the server's address is not allowed.
        httpx.HTTPError: If the server does not answer, or answers with an error.
        ValueError: If the answer is not the vectors of these texts; `LookupError` and `TypeError`, too.
    """
    with OutboundClient(
        allowed=get_environment().outbound_targets,
        max_bytes=_MAX_VECTOR_BYTES * len(texts),
        total_seconds=_REQUEST_SECONDS,
        headers={"Authorization": f"Bearer {key}"},
    ) as client:
        try:
            answer = client.post(f"{url}/embeddings", json={"input": texts, "model": model, **prefix})
        except TargetRefused as exc:
            raise SettingInvalid(
                f"The tenant's embedding server was not asked. {exc}.",
                hint="The operator can allow it in EMBERQ_OUTBOUND_ALLOW_PRIVATE.",
            ) from exc
    vectors = [item["embedding"] for item in answer.raise_for_status().json()["data"]]
    if len(vectors) != len(texts):
        msg = f"{len(vectors)} vectors for {len(texts)} texts"
        raise ValueError(msg)
    return vectors


async def embed_batch(
    send: Callable[[], Awaitable[Any]],
    *,
    engine: str,
    total_seconds: float = _TOTAL_SECONDS,
    backoff: Backoff = _BACKOFF,
) -> Any:
    """Send a batch until it succeeds, pausing while the server is busy or away.

    Args:
        send: Sends the batch once and returns the vectors.
        engine: Open WebUI's name of the engine; empty for a model in this process.
        total_seconds: Seconds after which no further attempt begins.
        backoff: The pauses between attempts.

    Raises:
        EmbeddingUnavailable: If the server stayed busy or away.
        EmbeddingRejected: If the server refused the request.
    """
    started_at, failures = time.monotonic(), 0
    while True:
        try:
            vectors = await send()
        except EmberqError:
            raise
        except Exception as exc:
            if not engine:
                raise
            failures += 1
            pause = backoff.pause_seconds(failures)
            # A pause that the server asks for is spread as well: it asks all jobs for the same one.
            pause = max(pause, _retry_after_seconds(exc) + pause / 2)
            if not _is_transient(exc) or time.monotonic() + pause - started_at > total_seconds:
                raise _failure(exc, total_seconds) from None
            log.warning("embedding_retried", status=_status(exc), pause_seconds=round(pause, 2))
            report_waiting()
            await asyncio.sleep(pause)
        else:
            if vectors is None:
                raise EmbeddingRejected("The embedding server sent no vectors.")
            return vectors


def _is_transient(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in TRANSIENT_STATUSES
    if isinstance(error, AnswerTooLarge):
        return False
    # A connection was refused, broke or timed out. The check is by name where the client is Open WebUI's.
    return isinstance(error, (OSError, TimeoutError, httpx.TransportError)) or any(
        base.__module__.partition(".")[0] in ("aiohttp", "requests", "urllib3")
        and base.__name__ in ("ClientConnectionError", "ClientPayloadError", "ConnectionError", "Timeout")
        for base in type(error).__mro__
    )


def _failure(error: Exception, total_seconds: float) -> EmberqError:
    """Return the error that ends the attempts, without the server's address and answer."""
    status = _status(error)
    if status is not None and status not in TRANSIENT_STATUSES:
        known = {
            401: "refused its key",
            403: "refused its key",
            404: "does not know the model or the address",
        }
        return EmbeddingRejected(
            f"The embedding server {known.get(status, 'refused the request')} (HTTP {status}).",
            hint="Check the embedding model, base URL and key.",
        )
    if _is_transient(error):
        answer = f"HTTP {status}" if status is not None else "no connection"
        return EmbeddingUnavailable(
            f"The embedding server did not answer for {total_seconds:.0f} seconds ({answer}).",
            hint="Check that the server named in the embedding settings runs.",
        )
    return EmbeddingRejected(f"The embedding server's answer could not be read ({type(error).__name__}).")


def _status(error: Exception) -> int | None:
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status > 0 else None


def _retry_after_seconds(error: Exception) -> float:
    headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", {})
    try:
        return min(max(float(headers.get("Retry-After", 0)), 0.0), _MAX_RETRY_AFTER_SECONDS)
    except (TypeError, ValueError):
        return 0.0
