from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emberq.findings import Finding
from emberq.openwebui.doctor.checks import examine
from emberq.openwebui.doctor.probes import Facts, Probe, read_env_file
from emberq.openwebui.doctor.recommended import KEY_PLACEHOLDER, as_env_file, recommended_settings

MODEL = "a-model"
BLOCK = recommended_settings("http://emberq:8040/", "eq_key", model=MODEL, reranking_model="a-reranker")


def live(**changes: Any) -> dict[str, Any]:
    """Return what Open WebUI tells over REST once the recommended settings are in force."""
    told: dict[str, Any] = {
        **BLOCK,
        "RAG_EMBEDDING_BATCH_SIZE": 32,
        "ENABLE_ASYNC_EMBEDDING": True,
        "ENABLE_RAG_HYBRID_SEARCH": True,
        "openai_config": {"url": BLOCK["RAG_OPENAI_API_BASE_URL"], "key": BLOCK["RAG_OPENAI_API_KEY"]},
    }
    return {**told, **changes}


GOOD = Facts(
    url="http://webui:8080",
    version="0.12.4",
    server="uvicorn",
    live=live(),
    env={**BLOCK, "DATABASE_URL": "postgresql+psycopg://webui@db/webui"},
    env_is_known=True,
    loader=Probe(seconds=0.01),
    embeddings=Probe(seconds=0.01, dimensions=384),
    reranker=Probe(seconds=0.01),
    emberq_model=MODEL,
)


def finding(facts: Facts, name: str) -> Finding:
    (found,) = (one for one in examine(facts) if one.name == name)
    return found


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in BLOCK.items() if key != name}


def test_the_recommended_settings_pass() -> None:
    assert [one for one in examine(GOOD) if one.result != "ok"] == []


@pytest.mark.parametrize(
    ("facts", "name", "result", "words"),
    [
        (replace(GOOD, version="0.13.0"), "version", "warning", "0.13.0"),
        (replace(GOOD, live=live(CONTENT_EXTRACTION_ENGINE="")), "extraction engine", "fail", "own loaders"),
        (replace(GOOD, live=live(CONTENT_EXTRACTION_ENGINE="tika")), "extraction engine", "warning", "tika"),
        (replace(GOOD, live=live(EXTERNAL_DOCUMENT_LOADER_URL="")), "document loader", "fail", "silently"),
        (
            replace(GOOD, live=live(EXTERNAL_DOCUMENT_LOADER_API_KEY="")),
            "document loader",
            "fail",
            "key is empty",
        ),
        (replace(GOOD, loader=Probe(error="it answered 401")), "document loader", "fail", "401"),
        (replace(GOOD, live=live(RAG_EMBEDDING_ENGINE="")), "embeddings", "warning", "process"),
        (replace(GOOD, embeddings=Probe(error="no answer")), "embeddings", "fail", "no answer"),
        (replace(GOOD, emberq_model="another"), "embedding model", "fail", "another"),
        (replace(GOOD, live=live(RAG_EMBEDDING_BATCH_SIZE=1)), "embedding requests", "warning", "one text"),
        (replace(GOOD, env=without("RAG_EMBEDDING_QUERY_PREFIX")), "query prefix", "warning", "wait behind"),
        (
            replace(GOOD, env=without("RAG_EMBEDDING_PREFIX_FIELD_NAME")),
            "query prefix",
            "fail",
            "into the texts",
        ),
        (replace(GOOD, env=without("THREAD_POOL_SIZE")), "thread pool", "fail", "not set"),
        (replace(GOOD, env={**BLOCK, "THREAD_POOL_SIZE": "8"}), "thread pool", "warning", "8 threads"),
        (replace(GOOD, env={}, env_is_known=False), "thread pool", "warning", "not known"),
        (
            replace(
                GOOD,
                env=without("ENABLE_PERSISTENT_CONFIG"),
                live=live(CHUNK_SIZE=1000, EXTERNAL_DOCUMENT_LOADER_URL="http://elsewhere"),
            ),
            "persistent configuration",
            "fail",
            "EXTERNAL_DOCUMENT_LOADER_URL",
        ),
        (replace(GOOD, env=BLOCK), "database", "warning", "locked"),
        (
            replace(GOOD, env={**BLOCK, "DATABASE_URL": "sqlite:////app/webui.db"}),
            "database",
            "warning",
            "locked",
        ),
        (replace(GOOD, env={**BLOCK, "UVICORN_WORKERS": "2"}), "vector database", "fail", "2 processes"),
        (replace(GOOD, live=live(RAG_EXTERNAL_RERANKER_URL="")), "reranker", "fail", "silently"),
        (replace(GOOD, live=live(RAG_RERANKING_ENGINE="")), "reranker", "warning", "process"),
        (replace(GOOD, reranker=Probe(error="no answer")), "reranker", "fail", "no answer"),
        (replace(GOOD, env={**BLOCK, "RAG_EMBEDDING_TIMEOUT": "60"}), "time limits", "warning", "60"),
        (replace(GOOD, loader=Probe(server="nginx/1.27")), "proxies", "warning", "nginx/1.27 at emberq:8040"),
    ],
)
def test_a_problem_is_found(facts: Facts, name: str, result: str, words: str) -> None:
    found = finding(facts, name)
    assert found.result == result
    assert words in found.detail
    assert found.fix


def test_no_finding_shows_a_key() -> None:
    differing = live(EXTERNAL_DOCUMENT_LOADER_API_KEY="another-key")
    for facts in (GOOD, replace(GOOD, env=without("ENABLE_PERSISTENT_CONFIG"), live=differing)):
        shown = "".join(f"{one.detail}{one.fix}" for one in examine(facts))
        assert "eq_key" not in shown
        assert "another-key" not in shown


def test_a_persistent_configuration_that_agrees_is_fine() -> None:
    facts = replace(GOOD, env=without("ENABLE_PERSISTENT_CONFIG"))
    assert finding(facts, "persistent configuration").result == "ok"


def test_the_block_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("# a comment\nexport QUOTED='a b'\nCOMMENTED=1 # one\n\n" + as_env_file(BLOCK))
    assert read_env_file(path) == {"QUOTED": "a b", "COMMENTED": "1", **BLOCK}
    assert KEY_PLACEHOLDER in as_env_file(recommended_settings("http://e", KEY_PLACEHOLDER, model=MODEL))
