"""The checks of `emberq openwebui doctor`: each returns one finding, with the fix if there is a problem."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from emberq.findings import Finding
from emberq.openwebui.doctor.environment import (
    check_database,
    check_persistence,
    check_prefixes,
    check_threads,
    check_time_limits,
    check_vectors,
)
from emberq.openwebui.doctor.probes import Facts, Probe
from emberq.openwebui.doctor.recommended import DOCUMENTS_PAGE
from emberq.openwebui.versions import TESTED_VERSIONS

#: `Server` headers of application servers, which are no proxies.
_APPLICATION_SERVERS = ("", "uvicorn", "hypercorn", "granian")


def examine(facts: Facts) -> list[Finding]:
    """Return one finding for each check."""
    return [check(facts) for check in _CHECKS]


def _check_version(facts: Facts) -> Finding:
    tested = ", ".join(TESTED_VERSIONS)
    if facts.version in TESTED_VERSIONS:
        return Finding("version", "ok", f"Open WebUI {facts.version} is a tested version")
    detail = f"Open WebUI {facts.version} was not tested with emberq; {tested} was"
    return Finding(
        "version", "warning", detail, f"Use {tested}, or try an import and a search before relying on it."
    )


def _check_extraction(facts: Facts) -> Finding:
    engine = facts.live.get("CONTENT_EXTRACTION_ENGINE") or ""
    fix = f"CONTENT_EXTRACTION_ENGINE=external, or {DOCUMENTS_PAGE} → Content Extraction Engine: External"
    if engine == "external":
        return Finding("extraction engine", "ok", "external: every file goes to emberq")
    if engine in ("tika", "docling"):
        detail = f"{engine}: text files stay in Open WebUI's own process, and Tika's answers have no pages"
        return Finding("extraction engine", "warning", detail, fix)
    loader = f"{engine!r}" if engine else "Open WebUI's own loaders"
    detail = f"{loader}: files are read in the web server's process; a bad file interrupts all others"
    return Finding("extraction engine", "fail", detail, fix)


def _check_loader(facts: Facts) -> Finding:
    name = "document loader"
    if not facts.live.get("EXTERNAL_DOCUMENT_LOADER_URL"):
        fix = f"EXTERNAL_DOCUMENT_LOADER_URL=http://EMBERQ:8040, or {DOCUMENTS_PAGE}"
        return Finding(name, "fail", "no address is set: files silently go to Open WebUI's own loaders", fix)
    if not facts.live.get("EXTERNAL_DOCUMENT_LOADER_API_KEY"):
        fix = "EXTERNAL_DOCUMENT_LOADER_API_KEY=… with a key of `emberq keys create`"
        return Finding(name, "fail", "its key is empty: files silently go to Open WebUI's own loaders", fix)
    return _probed(
        name, facts.loader, "Check EXTERNAL_DOCUMENT_LOADER_URL and its key, and that emberq runs."
    )


def _check_embeddings(facts: Facts) -> Finding:
    name = "embeddings"
    if facts.live.get("RAG_EMBEDDING_ENGINE") != "openai":
        detail = "the model runs in the web server's process, or elsewhere than in emberq"
        fix = "RAG_EMBEDDING_ENGINE=openai and RAG_OPENAI_API_BASE_URL=http://EMBERQ:8040/v1"
        return Finding(name, "warning", detail, fix)
    fix = "Check RAG_OPENAI_API_BASE_URL (with /v1, without a slash after it), its key and the model's name."
    return _probed(name, facts.embeddings, fix)


def _check_model(facts: Facts) -> Finding:
    name, model = "embedding model", str(facts.live.get("RAG_EMBEDDING_MODEL") or "")
    dimensions = facts.embeddings.dimensions if facts.embeddings else 0
    length = f", {dimensions} dimensions" if dimensions else ""
    if not facts.emberq_model:
        detail = f"{model}{length}; not compared with emberq's (EMBERQ_URL, EMBERQ_API_KEY)"
        return Finding(name, "ok", detail)
    if model == facts.emberq_model:
        return Finding(name, "ok", f"{model}{length}, the same as emberq's collections")
    detail = f"{model}{length}, but emberq's is {facts.emberq_model}: its collections give wrong results"
    fix = f"RAG_EMBEDDING_MODEL={facts.emberq_model}, then reindex the knowledge bases"
    return Finding(name, "fail", detail, fix)


def _check_batches(facts: Facts) -> Finding:
    name, size = "embedding requests", int(facts.live.get("RAG_EMBEDDING_BATCH_SIZE") or 1)
    is_async = facts.live.get("ENABLE_ASYNC_EMBEDDING")
    order = "all requests of a file at once" if is_async else "one request after the other"
    if size > 1:
        return Finding(name, "ok", f"{size} texts each, {order}")
    detail = f"one text each, {order}: a connection for every chunk"
    return Finding(name, "warning", detail, f"RAG_EMBEDDING_BATCH_SIZE=32, or {DOCUMENTS_PAGE}")


def _check_reranker(facts: Facts) -> Finding:
    name = "reranker"
    if not facts.live.get("ENABLE_RAG_HYBRID_SEARCH"):
        return Finding(name, "ok", "hybrid search is off, so nothing is reranked")
    if not facts.live.get("RAG_RERANKING_MODEL"):
        return Finding(name, "ok", "hybrid search without a reranking model")
    if facts.live.get("RAG_RERANKING_ENGINE") != "external":
        detail = "the reranking model runs in the web server's process"
        fix = "RAG_RERANKING_ENGINE=external and RAG_EXTERNAL_RERANKER_URL=http://EMBERQ:8040/v1/rerank"
        return Finding(name, "warning", detail, fix)
    if not facts.live.get("RAG_EXTERNAL_RERANKER_URL"):
        detail = "no address is set: results are silently not reranked"
        return Finding(name, "fail", detail, "RAG_EXTERNAL_RERANKER_URL=http://EMBERQ:8040/v1/rerank")
    return _probed(
        name, facts.reranker, "Check RAG_EXTERNAL_RERANKER_URL (the whole path), its key and the model."
    )


def _check_proxies(facts: Facts) -> Finding:
    openai = facts.live.get("openai_config") or {}
    servers = (
        (facts.url, facts.server),
        (facts.live.get("EXTERNAL_DOCUMENT_LOADER_URL"), facts.loader.server if facts.loader else ""),
        (openai.get("url"), facts.embeddings.server if facts.embeddings else ""),
    )
    proxies = {
        f"{server} at {urlsplit(str(url or '')).netloc}"
        for url, server in servers
        if server.lower() not in _APPLICATION_SERVERS
    }
    if not proxies:
        return Finding("proxies", "ok", "no answer names a proxy, seen from here")
    detail = f"{', '.join(sorted(proxies))}: many cut a request after 60 s, and extraction may take longer"
    fix = "Raise its time limit to an hour (nginx: proxy_read_timeout 3600s; proxy_request_buffering off)."
    return Finding("proxies", "warning", detail, fix)


_CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    _check_version,
    _check_extraction,
    _check_loader,
    _check_embeddings,
    _check_model,
    _check_batches,
    check_prefixes,
    check_threads,
    check_persistence,
    check_database,
    check_vectors,
    _check_reranker,
    check_time_limits,
    _check_proxies,
)


def _probed(name: str, probe: Probe | None, fix: str) -> Finding:
    """Return the finding for a server that was asked."""
    if probe is None:
        return Finding(name, "fail", "no address is set", fix)
    if probe.error:
        return Finding(name, "fail", f"{probe.error} (asked from here)", fix)
    return Finding(name, "ok", f"answers in {probe.seconds:.2f} s, asked from here")
