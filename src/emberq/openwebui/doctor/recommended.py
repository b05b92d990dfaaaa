"""The environment by which an unchanged Open WebUI uses emberq."""

from __future__ import annotations

#: Where an admin finds the document settings in Open WebUI.
DOCUMENTS_PAGE = "Admin Panel → Settings → Documents"
#: Placeholder for the key that `emberq keys create` prints.
KEY_PLACEHOLDER = "EMBERQ-KEY"
#: Threads shared by extraction and searches; each file that is being extracted occupies one.
THREAD_POOL_SIZE = 200
#: Prefixes by which emberq tells queries, which a user waits for, from the chunks of files.
PREFIXES = {
    "RAG_EMBEDDING_PREFIX_FIELD_NAME": "input_type",
    "RAG_EMBEDDING_QUERY_PREFIX": "query",
    "RAG_EMBEDDING_CONTENT_PREFIX": "passage",
}
#: Texts per embedding request; Open WebUI's default is 1.
_BATCH_SIZE = 32


def recommended_settings(url: str, key: str, *, model: str, reranking_model: str = "") -> dict[str, str]:
    """Return Open WebUI's environment.

    Args:
        url: emberq's address, as Open WebUI reaches it.
        key: An API key of the tenant.
        model: Name of the embedding model.
        reranking_model: Name of the reranking model; empty for no reranking.
    """
    url = url.rstrip("/")
    settings = {
        "CONTENT_EXTRACTION_ENGINE": "external",
        "EXTERNAL_DOCUMENT_LOADER_URL": url,
        "EXTERNAL_DOCUMENT_LOADER_API_KEY": key,
        "RAG_EMBEDDING_ENGINE": "openai",
        "RAG_EMBEDDING_MODEL": model,
        "RAG_OPENAI_API_BASE_URL": f"{url}/v1",
        "RAG_OPENAI_API_KEY": key,
        "RAG_EMBEDDING_BATCH_SIZE": str(_BATCH_SIZE),
        **PREFIXES,
        "THREAD_POOL_SIZE": str(THREAD_POOL_SIZE),
        "ENABLE_PERSISTENT_CONFIG": "false",
    }
    if reranking_model:
        settings |= {
            "ENABLE_RAG_HYBRID_SEARCH": "true",
            "RAG_RERANKING_ENGINE": "external",
            "RAG_RERANKING_MODEL": reranking_model,
            "RAG_EXTERNAL_RERANKER_URL": f"{url}/v1/rerank",
            "RAG_EXTERNAL_RERANKER_API_KEY": key,
        }
    return settings


def as_env_file(settings: dict[str, str]) -> str:
    """Return settings as lines for an `.env` file or Compose's `env_file`."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())
