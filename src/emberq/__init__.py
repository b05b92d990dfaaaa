"""emberq: warm Redis/RQ workers for document processing in RAG systems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emberq.config.snapshot import get_worker_config
    from emberq.pipeline.resources import get_worker_embedding_functions
    from emberq.worker.connections import connection
    from emberq.worker.progress import progress
    from emberq.worker.redis_pools import get_redis_pool
    from emberq.worker.resources import resource
    from emberq.worker.retry import retry_db_operation, retry_redis_operation
    from emberq.worker.scope import job_scope
    from emberq.worker.warm import WarmWorker

__all__ = [
    "WarmWorker",
    "connection",
    "get_redis_pool",
    "get_worker_config",
    "get_worker_embedding_functions",
    "job_scope",
    "progress",
    "resource",
    "retry_db_operation",
    "retry_redis_operation",
]

#: Where each public name lives; imported on first use, so that `emberq --help` stays quick.
_HOMES = {
    "WarmWorker": "emberq.worker.warm",
    "connection": "emberq.worker.connections",
    "get_redis_pool": "emberq.worker.redis_pools",
    "get_worker_config": "emberq.config.snapshot",
    "get_worker_embedding_functions": "emberq.pipeline.resources",
    "job_scope": "emberq.worker.scope",
    "progress": "emberq.worker.progress",
    "resource": "emberq.worker.resources",
    "retry_db_operation": "emberq.worker.retry",
    "retry_redis_operation": "emberq.worker.retry",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(home), name)
