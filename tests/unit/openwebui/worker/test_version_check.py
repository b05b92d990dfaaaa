"""Which Open WebUI may run in a warm worker."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from emberq.errors import InvalidRequest
from emberq.openwebui.worker import version_check
from emberq.openwebui.worker.version_check import (
    prepare_environment,
    require_tested_version,
    uses_accelerator,
)

GOOD = {"WEBUI_SECRET_KEY": "s", "VECTOR_DB": "pgvector"}


def _install(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(version_check, "version", lambda _name: version)


def test_a_tested_version_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "0.12.4")
    assert require_tested_version() == "0.12.4"


def test_another_version_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "0.13.0")
    with pytest.raises(InvalidRequest) as caught:
        require_tested_version()
    assert "0.13.0" in caught.value.message
    assert "0.12.4" in caught.value.message
    assert "pip install open-webui==0.12.4" in caught.value.hint


def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version_check, "version", missing)
    with pytest.raises(InvalidRequest, match="not installed") as caught:
        require_tested_version()
    assert "emberq[openwebui]" in caught.value.hint


def test_local_chroma_is_refused_with_the_reason() -> None:
    for store in ({}, {"VECTOR_DB": "chroma"}):
        with pytest.raises(InvalidRequest, match="silently miss") as caught:
            prepare_environment({"WEBUI_SECRET_KEY": "s", **store})
        assert "CHROMA_HTTP_HOST" in caught.value.hint


@pytest.mark.parametrize(
    "store", [{"CHROMA_HTTP_HOST": "chroma"}, {"USE_SLIM_DOCKER": "true"}, {"VECTOR_DB": "qdrant"}]
)
def test_a_shared_vector_store_is_taken(store: dict[str, str]) -> None:
    prepare_environment({"WEBUI_SECRET_KEY": "s", **store})


def test_a_worker_without_the_servers_secret_key_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="WEBUI_SECRET_KEY"):
        prepare_environment({"VECTOR_DB": "pgvector"})
    prepare_environment({"VECTOR_DB": "pgvector", "WEBUI_AUTH": "False"})


def test_the_schema_is_left_to_the_server_and_no_library_starts_threads() -> None:
    environment = {**GOOD, "ENABLE_DB_MIGRATIONS": "true", "OMP_NUM_THREADS": "2"}
    prepare_environment(environment)
    assert environment["ENABLE_DB_MIGRATIONS"] == "false"
    assert environment["FROM_INIT_PY"] == "true"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
    assert environment["OMP_NUM_THREADS"] == "2"


def test_an_accelerator_is_known_before_the_import() -> None:
    assert uses_accelerator({"USE_CUDA_DOCKER": "true"})
