"""Checks of Open WebUI's environment, which its REST API does not show."""

from __future__ import annotations

from emberq.findings import Finding
from emberq.openwebui.doctor.probes import Facts
from emberq.openwebui.doctor.recommended import DOCUMENTS_PAGE, PREFIXES, THREAD_POOL_SIZE

#: Smallest thread pool that passes: with fewer threads, about two dozen slow uploads make searches wait.
_MIN_THREADS = 64
#: Smallest time limit in seconds that passes: a shorter one cuts off large files.
_MIN_LIMIT_SECONDS = 600
#: Settings that both the environment and the REST API have; a difference shows which of them is in force.
_COMPARED = (
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
_ENV_FILE = "give its environment with --env-file"


def check_prefixes(facts: Facts) -> Finding:
    """Check the prefixes by which emberq tells queries from files."""
    name, block = "query prefix", ", ".join(f"{key}={value}" for key, value in PREFIXES.items())
    wrong = [key for key, value in PREFIXES.items() if facts.env.get(key) != value]
    if not wrong:
        return Finding(name, "ok", "emberq can tell queries from files and answers them first")
    if not facts.env_is_known and len(wrong) == len(PREFIXES):
        detail = "not known here: Open WebUI's API does not show it"
        return Finding(name, "warning", detail, f"Look for {block}; {_ENV_FILE}")
    if "RAG_EMBEDDING_PREFIX_FIELD_NAME" in wrong and len(wrong) < len(PREFIXES):
        detail = "prefixes are written into the texts and embedded with them"
        return Finding(name, "fail", detail, block)
    return Finding(name, "warning", "queries look like files to emberq, so they wait behind files", block)


def check_threads(facts: Facts) -> Finding:
    """Check the thread pool, which extraction and searches share."""
    name, fix = "thread pool", f"THREAD_POOL_SIZE={THREAD_POOL_SIZE}"
    value = facts.env.get("THREAD_POOL_SIZE", "")
    if value.isdigit() and int(value) >= _MIN_THREADS:
        return Finding(name, "ok", f"{value} threads")
    if value.isdigit() and int(value):
        return Finding(name, "warning", f"{value} threads: as many uploads at once make searches wait", fix)
    if not facts.env_is_known:
        detail = "not known here: Open WebUI's API does not show it, and its default is a few threads"
        return Finding(name, "warning", detail, f"{fix}; {_ENV_FILE}")
    detail = "not set: a few slow uploads take all threads, and every search waits until one of them ends"
    return Finding(name, "fail", detail, fix)


def check_persistence(facts: Facts) -> Finding:
    """Check whether values in Open WebUI's database override the environment."""
    name = "persistent configuration"
    if facts.env.get("ENABLE_PERSISTENT_CONFIG", "").lower() == "false":
        return Finding(name, "ok", "off: the environment is in force at every start")
    differing = [
        key for key in _COMPARED if key in facts.env and not _equal(facts.env[key], facts.live.get(key))
    ]
    if differing:
        detail = f"on: the database's values are in force, not the environment's: {', '.join(differing)}"
        fix = f"ENABLE_PERSISTENT_CONFIG=false, or change them under {DOCUMENTS_PAGE}"
        return Finding(name, "fail", detail, fix)
    if facts.env_is_known:
        detail = "on: the environment counts at the first start only; the values in force are the same"
        return Finding(name, "ok", detail)
    return Finding(name, "ok", f"not compared with the environment; {_ENV_FILE}")


def check_database(facts: Facts) -> Finding:
    """Check that the database can take many uploads at once."""
    name, url = "database", facts.env.get("DATABASE_URL") or facts.env.get("DATABASE_TYPE") or "sqlite"
    if not facts.env_is_known and "DATABASE_URL" not in facts.env:
        return Finding(name, "ok", f"not known here; SQLite is for a few people only; {_ENV_FILE}")
    kind = url.partition(":")[0].partition("+")[0].lower()
    if not kind.startswith("sqlite"):
        return Finding(name, "ok", kind)
    detail = "SQLite: of many uploads at once, some fail because the database is locked"
    return Finding(name, "warning", detail, "DATABASE_URL=postgresql://…")


def check_vectors(facts: Facts) -> Finding:
    """Check that all processes see the same vectors."""
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
    detail = "local Chroma: one process only, so emberq's warm workers cannot write to it"
    return Finding(name, "ok", detail)


def check_time_limits(facts: Facts) -> Finding:
    """Check that the time limits are long enough for large files."""
    short = [
        f"{name}={value}"
        for name in ("RAG_EMBEDDING_TIMEOUT", "AIOHTTP_CLIENT_TIMEOUT")
        if (value := facts.env.get(name, "")).isdigit() and 0 < int(value) < _MIN_LIMIT_SECONDS
    ]
    if short:
        detail = f"{', '.join(short)}: a large file that waits in the queue fails"
        return Finding("time limits", "warning", detail, "Unset them, or set 3600.")
    return Finding("time limits", "ok", "no short one is known")


def _equal(written: str, live: object) -> bool:
    """Compare a value of the environment with a setting: `true` is True, `32` is 32, and empty is None."""
    if isinstance(live, bool):
        return written.lower() == str(live).lower()
    return written == ("" if live is None else str(live))
