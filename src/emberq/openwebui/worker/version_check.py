"""Checks before Open WebUI is imported: its version and the worker's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version

from emberq.errors import InvalidRequest
from emberq.openwebui.versions import TESTED_VERSIONS

#: Environment that the import needs outside the server: find its files in the package, and leave migrations
#: to the server.
_IMPORT_ENVIRONMENT = {"FROM_INIT_PY": "true", "ENABLE_DB_MIGRATIONS": "false"}
#: Environment that keeps libraries from starting threads, which a forked process would not have.
_NO_THREADS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    # The background thread of pyarrow's allocator.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def require_tested_version() -> str:
    """Return the installed version of Open WebUI.

    Raises:
        InvalidRequest: If Open WebUI is not installed, or its version is not a tested one.
    """
    tested = ", ".join(TESTED_VERSIONS)
    try:
        installed = version("open-webui")
    except PackageNotFoundError:
        raise InvalidRequest(
            "Open WebUI is not installed in the worker's environment.",
            hint=f"Install it there: pip install 'emberq[openwebui]' (Open WebUI {TESTED_VERSIONS[-1]}).",
        ) from None
    if installed not in TESTED_VERSIONS:
        raise InvalidRequest(
            f"Open WebUI {installed} is installed, but warm workers are tested with {tested} only.",
            hint=f"Install a tested version (pip install open-webui=={TESTED_VERSIONS[-1]}), or "
            "let the server process files and use emberq by settings (docs/how-to/openwebui-warm-worker.md).",
        )
    return installed


def prepare_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables that the import of Open WebUI needs.

    Raises:
        InvalidRequest: If the server's secret key is missing, or the vector store cannot be shared by
            several processes.
    """
    _require_secret_key(environment)
    _require_shared_vectors(environment)
    environment.update(_IMPORT_ENVIRONMENT)
    for name, value in _NO_THREADS.items():
        environment.setdefault(name, value)


def uses_accelerator(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether Open WebUI loads local models on a device whose state does not survive a fork."""
    return environment.get("USE_CUDA_DOCKER", "false").lower() == "true" or os.uname().sysname == "Darwin"


def _require_secret_key(environment: Mapping[str, str]) -> None:
    if environment.get("WEBUI_AUTH", "true").lower() != "true":
        return
    if not (environment.get("WEBUI_SECRET_KEY") or environment.get("WEBUI_JWT_SECRET_KEY")):
        raise InvalidRequest(
            "WEBUI_SECRET_KEY is not set for the worker.",
            hint="Give the worker the server's environment: WEBUI_SECRET_KEY, DATABASE_URL, DATA_DIR, "
            "VECTOR_DB and its settings, STORAGE_PROVIDER.",
        )


def _require_shared_vectors(environment: Mapping[str, str]) -> None:
    is_slim = environment.get("USE_SLIM_DOCKER", "false").lower() == "true"
    store = environment.get("VECTOR_DB") or ("pgvector" if is_slim else "chroma")
    if store == "chroma" and not environment.get("CHROMA_HTTP_HOST"):
        raise InvalidRequest(
            "Local Chroma cannot be used from a worker: the running server does not see chunks that another "
            "process adds to an open collection, so its searches would silently miss them.",
            hint="Use VECTOR_DB=pgvector with PGVECTOR_DB_URL, or a Chroma server with CHROMA_HTTP_HOST, "
            "for the server and the workers.",
        )
