"""Which Open WebUI may run in a warm worker, and how it must be set up before it is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version

from emberq.errors import InvalidRequest

__all__ = ["TESTED_VERSIONS", "prepare_environment", "require_tested_version", "uses_accelerator"]

#: Versions of Open WebUI that this code was run against. What it calls in there is no public interface
#: and may change with any release.
TESTED_VERSIONS = ("0.12.4",)
#: What the import needs in a process that is not its server: its files are found in the package, the
#: schema is left to the server, and no library starts threads that a fork would lose.
_BEFORE_IMPORT = {"FROM_INIT_PY": "true", "ENABLE_DB_MIGRATIONS": "false"}
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    # pyarrow's allocator keeps one for tidying up.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def require_tested_version() -> str:
    """Return the installed version of Open WebUI if it is a tested one.

    Raises:
        InvalidRequest: If it is not installed, or another version is.
    """
    tested = ", ".join(TESTED_VERSIONS)
    try:
        installed = version("open-webui")
    except PackageNotFoundError:
        raise InvalidRequest(
            "Open WebUI is not installed in the environment that the worker runs in.",
            hint=f"Install it there: pip install 'emberq[openwebui]' (Open WebUI {TESTED_VERSIONS[-1]}).",
        ) from None
    if installed not in TESTED_VERSIONS:
        raise InvalidRequest(
            f"Open WebUI {installed} is installed, but warm workers are tested with {tested} only.",
            hint=f"Install a tested version (pip install open-webui=={TESTED_VERSIONS[-1]}), or leave the "
            "work to the server and use emberq through its settings (docs/how-to/openwebui-warm-worker.md).",
        )
    return installed


def prepare_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what must be set before Open WebUI is imported.

    Raises:
        InvalidRequest: If the environment names no secret key of the server, or a vector store that two
            processes must not share.
    """
    _require_secret_key(environment)
    _require_shared_vectors(environment)
    environment.update(_BEFORE_IMPORT)
    for name, value in _ONE_THREAD.items():
        environment.setdefault(name, value)


def uses_accelerator(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether Open WebUI would put local models on a device that cannot be forked."""
    return environment.get("USE_CUDA_DOCKER", "false").lower() == "true" or os.uname().sysname == "Darwin"


def _require_secret_key(environment: Mapping[str, str]) -> None:
    if environment.get("WEBUI_AUTH", "true").lower() != "true":
        return
    if not (environment.get("WEBUI_SECRET_KEY") or environment.get("WEBUI_JWT_SECRET_KEY")):
        raise InvalidRequest(
            "WEBUI_SECRET_KEY is not set for the worker.",
            hint="Give the worker the server's environment: WEBUI_SECRET_KEY, DATABASE_URL, DATA_DIR, "
            "VECTOR_DB and what belongs to it, STORAGE_PROVIDER.",
        )


def _require_shared_vectors(environment: Mapping[str, str]) -> None:
    is_slim = environment.get("USE_SLIM_DOCKER", "false").lower() == "true"
    store = environment.get("VECTOR_DB") or ("pgvector" if is_slim else "chroma")
    if store == "chroma" and not environment.get("CHROMA_HTTP_HOST"):
        raise InvalidRequest(
            "Local Chroma cannot be used from a worker: the running server does not see what another "
            "process adds to a collection it has open, so its searches would silently miss it.",
            hint="Use VECTOR_DB=pgvector with PGVECTOR_DB_URL, or a Chroma server with CHROMA_HTTP_HOST, "
            "for server and workers alike.",
        )
