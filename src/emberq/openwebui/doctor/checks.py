"""What `emberq openwebui doctor` finds in the facts: the settings that bite, and how to mend each."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from emberq.findings import Finding
from emberq.openwebui.doctor.probes import Facts, Probe
from emberq.openwebui.doctor.recommended import PREFIXES, THREAD_POOL_SIZE

__all__ = ["TESTED_VERSIONS", "examine"]

#: Versions of Open WebUI that emberq was tested with.
TESTED_VERSIONS = ("0.12.4",)
#: Threads below which a few slow files keep searches waiting: about two dozen uploads at once.
_FEW_THREADS = 64
#: Seconds below which a limit cuts off large files.
_SHORT_SECONDS = 600
#: Names of settings that the environment and the REST API both have, for telling which of them is in force.
_SHADOWED = (
    "CONTENT_EXTRACTION_ENGINE",
    "EXTERNAL_DOCUMENT_LOADER_URL",
    "EXTERNAL_DOCUMENT_LOADER_API_KEY",
    "RAG_EMBEDDING_ENGINE",
    "RAG_EMBEDDING_MODEL",
    "RAG_EMBEDDING_BATCH_SIZE",
    "ENABLE_ASYNC_EMBEDDING",
    "ENABLE_RAG_HYBRID_SEARCH",
    "RAG_RERANKING_ENGINE",
    "RAG_RERANKING_MODEL",
    "RAG_EXTERNAL_RERANKER_URL",
    "RAG_EXTERNAL_RERANKER_API_KEY",
    "CHUNK_SIZE",
    "CHUNK_OVERLAP",
)
_DOCUMENTS = "Admin Panel → Settings → Documents"
#: What servers call themselves that run Python applications, and are no proxies.
_NO_PROXIES = ("", "uvicorn", "hypercorn", "granian")


def examine(facts: Facts) -> list[Finding]:
    """Return what the facts say, one finding for each check."""
    return [check(facts) for check in _CHECKS]


def _version(facts: Facts) -> Finding:
    tested = ", ".join(TESTED_VERSIONS)
    if facts.version in TESTED_VERSIONS:
        return Finding("version", "ok", f"Open WebUI {facts.version} is a tested version")
    detail = f"Open WebUI {facts.version} was not tested with emberq; {tested} was"
    return Finding(
        "version", "warning", detail, f"Use {tested}, or try an import and a search before relying on it."
    )


def _extraction(facts: Facts) -> Finding:
    engine = facts.live.get("CONTENT_EXTRACTION_ENGINE") or ""
    fix = f"CONTENT_EXTRACTION_ENGINE=external, or {_DOCUMENTS} → Content Extraction Engine: External"
    if engine == "external":
        return Finding("extraction engine", "ok", "external: every file goes to emberq")
    if engine in ("tika", "docling"):
        detail = f"{engine}: text files stay in Open WebUI's own process, and Tika's form has no pages"
        return Finding("extraction engine", "warning", detail, fix)
    where = f"{engine!r}" if engine else "Open WebUI's own loaders"
    detail = f"{where}: files are read in the web server's process, where a bad one takes the others with it"
    return Finding("extraction engine", "fail", detail, fix)


def _loader(facts: Facts) -> Finding:
    name = "document loader"
    if not facts.live.get("EXTERNAL_DOCUMENT_LOADER_URL"):
        fix = f"EXTERNAL_DOCUMENT_LOADER_URL=http://EMBERQ:8040, or {_DOCUMENTS}"
        return Finding(name, "fail", "no address is set: files silently go to Open WebUI's own loaders", fix)
    if not facts.live.get("EXTERNAL_DOCUMENT_LOADER_API_KEY"):
        fix = "EXTERNAL_DOCUMENT_LOADER_API_KEY=… with a key of `emberq keys create`"
        return Finding(name, "fail", "its key is empty: files silently go to Open WebUI's own loaders", fix)
    return _answer(
        name, facts.loader, "Check EXTERNAL_DOCUMENT_LOADER_URL and its key, and that emberq runs."
    )


def _embeddings(facts: Facts) -> Finding:
    name = "embeddings"
    if facts.live.get("RAG_EMBEDDING_ENGINE") != "openai":
        detail = "the model runs in the web server's process, or elsewhere than in emberq"
        fix = "RAG_EMBEDDING_ENGINE=openai and RAG_OPENAI_API_BASE_URL=http://EMBERQ:8040/v1"
        return Finding(name, "warning", detail, fix)
    fix = "Check RAG_OPENAI_API_BASE_URL (with /v1, without a slash after it), its key and the model's name."
    return _answer(name, facts.embeddings, fix)


def _model(facts: Facts) -> Finding:
    name, model = "embedding model", str(facts.live.get("RAG_EMBEDDING_MODEL") or "")
    length = (
        f", {facts.embeddings.dimensions} dimensions"
        if facts.embeddings and facts.embeddings.dimensions
        else ""
    )
    if not facts.emberq_model:
        detail = f"{model}{length}; not compared with emberq's (EMBERQ_URL, EMBERQ_API_KEY)"
        return Finding(name, "ok", detail)
    if model == facts.emberq_model:
        return Finding(name, "ok", f"{model}{length}, as emberq's collections")
    detail = (
        f"{model}{length}, but emberq's is {facts.emberq_model}: nothing right is found in its collections"
    )
    return Finding(
        name, "fail", detail, f"RAG_EMBEDDING_MODEL={facts.emberq_model}, then reindex the knowledge bases"
    )


def _batches(facts: Facts) -> Finding:
    size = int(facts.live.get("RAG_EMBEDDING_BATCH_SIZE") or 1)
    how = (
        "all requests of a file at once"
        if facts.live.get("ENABLE_ASYNC_EMBEDDING")
        else "one after the other"
    )
    if size > 1:
        return Finding("embedding requests", "ok", f"{size} texts each, {how}")
    detail = f"one text each, {how}: a connection for every chunk"
    return Finding("embedding requests", "warning", detail, f"RAG_EMBEDDING_BATCH_SIZE=32, or {_DOCUMENTS}")


def _prefixes(facts: Facts) -> Finding:
    name, block = "query prefix", ", ".join(f"{key}={value}" for key, value in PREFIXES.items())
    wrong = [key for key, value in PREFIXES.items() if facts.env.get(key) != value]
    if not wrong:
        return Finding(name, "ok", "emberq can tell queries from files and answers them first")
    if not facts.env_is_known and len(wrong) == len(PREFIXES):
        return Finding(
            name, "warning", "not known here: Open WebUI does not tell it", f"Look for {block}; {_ENV_FILE}"
        )
    if "RAG_EMBEDDING_PREFIX_FIELD_NAME" in wrong and len(wrong) < len(PREFIXES):
        detail = "prefixes are written into the texts: they are embedded with them"
        return Finding(name, "fail", detail, block)
    return Finding(name, "warning", "queries look like files to emberq and wait behind them", block)


def _threads(facts: Facts) -> Finding:
    name, fix = "thread pool", f"THREAD_POOL_SIZE={THREAD_POOL_SIZE}"
    value = facts.env.get("THREAD_POOL_SIZE", "")
    if value.isdigit() and int(value) >= _FEW_THREADS:
        return Finding(name, "ok", f"{value} threads")
    if value.isdigit() and int(value):
        return Finding(name, "warning", f"{value} threads: as many uploads at once make searches wait", fix)
    if not facts.env_is_known:
        detail = "not known here: Open WebUI does not tell it, and its default is a few threads"
        return Finding(name, "warning", detail, f"{fix}; {_ENV_FILE}")
    detail = "not set: a few slow uploads take all threads, and every search waits until one of them ends"
    return Finding(name, "fail", detail, fix)


def _persistence(facts: Facts) -> Finding:
    name = "persistent configuration"
    if facts.env.get("ENABLE_PERSISTENT_CONFIG", "").lower() == "false":
        return Finding(name, "ok", "off: the environment is in force at every start")
    differing = [
        one for one in _SHADOWED if one in facts.env and not _equal(facts.env[one], facts.live.get(one))
    ]
    if differing:
        detail = f"on: the database's values are in force, not the environment's: {', '.join(differing)}"
        return Finding(
            name, "fail", detail, f"ENABLE_PERSISTENT_CONFIG=false, or change them under {_DOCUMENTS}"
        )
    if facts.env_is_known:
        detail = "on: the environment counts at the first start only; what is set now agrees"
        return Finding(name, "ok", detail)
    return Finding(name, "ok", f"not compared with the environment; {_ENV_FILE}")


def _database(facts: Facts) -> Finding:
    name, url = "database", facts.env.get("DATABASE_URL") or facts.env.get("DATABASE_TYPE") or "sqlite"
    if not facts.env_is_known and "DATABASE_URL" not in facts.env:
        return Finding(name, "ok", f"not known here; SQLite is for a few people only; {_ENV_FILE}")
    kind = url.partition(":")[0].partition("+")[0].lower()
    if not kind.startswith("sqlite"):
        return Finding(name, "ok", kind)
    detail = "SQLite: of many uploads at once it refuses some, and says that the database is locked"
    return Finding(name, "warning", detail, "DATABASE_URL=postgresql://…")


def _vectors(facts: Facts) -> Finding:
    name, kind = "vector database", facts.env.get("VECTOR_DB", "chroma").lower()
    is_local = kind == "chroma" and not facts.env.get("CHROMA_HTTP_HOST")
    workers = facts.env.get("UVICORN_WORKERS", "1")
    if not facts.env_is_known and "VECTOR_DB" not in facts.env:
        return Finding(name, "ok", f"not known here; local Chroma allows one process only; {_ENV_FILE}")
    if not is_local:
        return Finding(name, "ok", kind)
    if workers.isdigit() and int(workers) > 1:
        detail = f"local Chroma with {workers} processes: each sees only what it wrote itself"
        return Finding(name, "fail", detail, "VECTOR_DB=pgvector and PGVECTOR_DB_URL=…, or UVICORN_WORKERS=1")
    detail = "local Chroma: this one process only, so no warm worker of emberq's may write to it"
    return Finding(name, "ok", detail)


def _reranker(facts: Facts) -> Finding:
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
        detail = "no address is set: results keep their order without a word"
        return Finding(name, "fail", detail, "RAG_EXTERNAL_RERANKER_URL=http://EMBERQ:8040/v1/rerank")
    return _answer(
        name, facts.reranker, "Check RAG_EXTERNAL_RERANKER_URL (the whole path), its key and the model."
    )


def _limits(facts: Facts) -> Finding:
    short = [
        f"{name}={value}"
        for name in ("RAG_EMBEDDING_TIMEOUT", "AIOHTTP_CLIENT_TIMEOUT")
        if (value := facts.env.get(name, "")).isdigit() and 0 < int(value) < _SHORT_SECONDS
    ]
    if short:
        detail = f"{', '.join(short)}: a large file that waits for its turn fails"
        return Finding("time limits", "warning", detail, "Unset them, or set 3600.")
    return Finding("time limits", "ok", "none that is known to be short")


def _proxies(facts: Facts) -> Finding:
    asked: tuple[tuple[str, str], ...] = (
        (facts.url, facts.server),
        (
            str(facts.live.get("EXTERNAL_DOCUMENT_LOADER_URL") or ""),
            facts.loader.server if facts.loader else "",
        ),
        (str((facts.live.get("openai_config") or {}).get("url") or ""), _server(facts.embeddings)),
    )
    found = {
        f"{server} at {urlsplit(url).netloc}" for url, server in asked if server.lower() not in _NO_PROXIES
    }
    if not found:
        return Finding("proxies", "ok", "none that names itself, as seen from here")
    detail = f"{', '.join(sorted(found))}: many cut a request after 60 s, and extraction may take longer"
    fix = "Let it wait for an hour (nginx: proxy_read_timeout 3600s; proxy_request_buffering off)."
    return Finding("proxies", "warning", detail, fix)


_ENV_FILE = "give its environment with --env-file"

_CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    _version,
    _extraction,
    _loader,
    _embeddings,
    _model,
    _batches,
    _prefixes,
    _threads,
    _persistence,
    _database,
    _vectors,
    _reranker,
    _limits,
    _proxies,
)


def _answer(name: str, probe: Probe | None, fix: str) -> Finding:
    if probe is None:
        return Finding(name, "fail", "no address is set", fix)
    if probe.error:
        return Finding(name, "fail", f"{probe.error} (asked from here)", fix)
    return Finding(name, "ok", f"answers in {probe.seconds:.2f} s, asked from here")


def _server(probe: Probe | None) -> str:
    return probe.server if probe else ""


def _equal(written: str, live: object) -> bool:
    """Compare an environment's value with a setting: `true` is True, `32` is 32, and nothing is nothing."""
    if isinstance(live, bool):
        return written.lower() == str(live).lower()
    return written == ("" if live is None else str(live))
