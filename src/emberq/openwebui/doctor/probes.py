"""The facts for `emberq openwebui doctor`: Open WebUI's settings, and answers of the servers they name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from emberq.errors import InvalidRequest
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.outbound.addresses import AllowedTargets
from emberq.outbound.client import OutboundClient
from emberq.telemetry.redact import redact_text

#: Time limit for an answer, in seconds.
_ANSWER_SECONDS = 30.0
#: Largest answer: three vectors, scores, or one page.
_MAX_ANSWER_BYTES = 1 << 20
#: The settings with the addresses of servers, besides `openai_config`.
_SERVERS = ("EXTERNAL_DOCUMENT_LOADER_URL", "RAG_EXTERNAL_RERANKER_URL")
#: The text that is sent for extraction, embedding and ranking.
_SAMPLE = "emberq openwebui doctor checks whether this server answers."


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer of a server named in Open WebUI's settings.

    Attributes:
        error: Why the answer is unusable; empty if it is usable.
        seconds: Time until the answer.
        server: The answer's `Server` header, in which a proxy names itself.
        dimensions: The vector's length, for embeddings.
    """

    error: str = ""
    seconds: float = 0.0
    server: str = ""
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one Open WebUI.

    Attributes:
        url: Its address.
        version: Its version.
        server: Its `Server` header.
        live: The settings in force, named as in the environment.
        env: Its environment, as far as it is known.
        env_is_known: Whether `env` is the whole environment, so that a missing name is an unset variable.
        loader: The document loader's answer; None if the settings name no loader.
        embeddings: The embedding endpoint's answer; None if the settings name none.
        reranker: The reranker's answer; None if the settings name none.
        emberq_model: emberq's embedding model for the tenant; empty if it is not known.
    """

    url: str
    version: str
    server: str
    live: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)
    env_is_known: bool = False
    loader: Probe | None = None
    embeddings: Probe | None = None
    reranker: Probe | None = None
    emberq_model: str = ""


def gather(
    client: OpenWebUIClient, *, env: Mapping[str, str], env_is_known: bool, emberq_model: str = ""
) -> Facts:
    """Ask Open WebUI and the servers named in its settings.

    Raises:
        EmberqError: If Open WebUI does not answer, or the account is not an admin's.
    """
    live = client.retrieval_settings()
    # The account is an admin's, who may make Open WebUI itself send requests to any address.
    named = [client.url, *(str(live.get(name) or "") for name in _SERVERS)]
    named.append(str((live.get("openai_config") or {}).get("url") or ""))
    with OutboundClient(
        allowed=AllowedTargets().with_servers(named),
        max_bytes=_MAX_ANSWER_BYTES,
        total_seconds=_ANSWER_SECONDS,
    ) as http:
        return Facts(
            url=client.url,
            version=client.version(),
            server=_server_of(http, f"{client.url}/health"),
            live=live,
            env=env,
            env_is_known=env_is_known,
            loader=_ask_loader(http, live),
            embeddings=_ask_embeddings(http, live),
            reranker=_ask_reranker(http, live),
            emberq_model=emberq_model,
        )


def read_env_file(path: Path) -> dict[str, str]:
    """Read `NAME=value` lines, with `export`, quotes and `#` comments as in shells and Compose.

    Raises:
        InvalidRequest: If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{path} cannot be read.", hint="Name a file with NAME=value lines.") from exc
    found: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and name.strip() and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value.split(" #", 1)[0].strip()
    return found


def _ask_loader(http: OutboundClient, live: Mapping[str, Any]) -> Probe | None:
    url = str(live.get("EXTERNAL_DOCUMENT_LOADER_URL") or "").removesuffix("/")
    if not url:
        return None
    headers = {"Content-Type": "text/plain", "X-Filename": f"{UUID(int=0)}_doctor.txt"}
    headers |= _bearer(live.get("EXTERNAL_DOCUMENT_LOADER_API_KEY"))
    return _ask(http, "PUT", f"{url}/process", content=_SAMPLE.encode(), headers=headers)


def _ask_embeddings(http: OutboundClient, live: Mapping[str, Any]) -> Probe | None:
    settings = live.get("openai_config") or {}
    if live.get("RAG_EMBEDDING_ENGINE") != "openai" or not settings.get("url"):
        return None
    body = {"input": [_SAMPLE], "model": live.get("RAG_EMBEDDING_MODEL")}
    url = f"{settings['url']}/embeddings"
    return _ask(http, "POST", url, json=body, headers=_bearer(settings.get("key")))


def _ask_reranker(http: OutboundClient, live: Mapping[str, Any]) -> Probe | None:
    url = live.get("RAG_EXTERNAL_RERANKER_URL")
    if live.get("RAG_RERANKING_ENGINE") != "external" or not url:
        return None
    body = {
        "model": live.get("RAG_RERANKING_MODEL"),
        "query": _SAMPLE,
        "documents": [_SAMPLE, "Something else."],
        "top_n": 2,
    }
    return _ask(http, "POST", str(url), json=body, headers=_bearer(live.get("RAG_EXTERNAL_RERANKER_API_KEY")))


def _ask(http: OutboundClient, method: str, url: str, **options: Any) -> Probe:
    started_at = time.monotonic()
    try:
        response = http.request(method, url, **options)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return Probe(error=redact_text(f"no answer at {url}: {str(exc) or type(exc).__name__}"))
    seconds, server = time.monotonic() - started_at, response.headers.get("server", "")
    if response.is_error:
        return Probe(
            f"{url} answered {response.status_code}: {redact_text(response.text)[:200]}", seconds, server
        )
    try:
        answer = response.json()
        dimensions = len(answer["data"][0]["embedding"]) if "data" in answer else 0
    except (ValueError, LookupError, TypeError):
        return Probe(f"the answer of {url} is not in the form that Open WebUI reads", seconds, server)
    return Probe("", seconds, server, dimensions)


def _server_of(http: OutboundClient, url: str) -> str:
    try:
        return str(http.get(url).headers.get("server", ""))
    except httpx.HTTPError:
        return ""


def _bearer(key: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
