"""emberq: warm Redis/RQ workers for document processing in RAG systems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emberq.entry_points import PUBLIC_NAMES

if TYPE_CHECKING:
    from emberq.config.current import get_worker_config
    from emberq.pipeline.resources import get_worker_embedding_functions
    from emberq.redis_pools import get_redis_pool
    from emberq.retry.operation import retry_db_operation, retry_redis_operation
    from emberq.worker.job.progress import progress
    from emberq.worker.job.scope import job_scope
    from emberq.worker.resources.connections import connection
    from emberq.worker.resources.resources import resource
    from emberq.worker.warm_worker import WarmWorker

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


def __getattr__(name: str) -> Any:
    home = PUBLIC_NAMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(home), name)
