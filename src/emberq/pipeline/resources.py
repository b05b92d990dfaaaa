"""The resources of document workers: the configuration and the models, loaded once per host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from emberq.config.current import get_worker_config
from emberq.config.snapshot import Snapshot
from emberq.models.embedder import Embedder
from emberq.models.files import find_model
from emberq.models.queues import Model, ModelKey
from emberq.models.reranker import CrossEncoder, find_reranker
from emberq.pipeline.sandbox.reader_handle import close_reader, get_reader, require_full_protection
from emberq.pipeline.warmup import warm_up_document
from emberq.store.services import get_services
from emberq.worker.resources.resources import resource

#: Takes a query and texts; returns one relevance for each text.
Reranker = Callable[[str, Sequence[str]], NDArray[np.float32]]

_embedders: dict[str, Embedder] = {}
_rerankers: dict[str, CrossEncoder] = {}
_lock = threading.Lock()


class EmbeddingFunctions(NamedTuple):
    """The worker's models.

    Attributes:
        embed: Turns texts into vectors.
        rerank: Turns a query and texts into relevances; None if no reranking model is set.
    """

    embed: Embedder
    rerank: Reranker | None


@resource
def worker_config() -> Snapshot:
    """Load the configuration, and close the connection to the database again before the fork."""
    snapshot = get_worker_config()
    get_services().database.close()
    return snapshot


@resource
def embedding_functions() -> EmbeddingFunctions:
    """Load the models that the configuration names."""
    settings = worker_config().settings
    name = settings.rag_reranking_model
    return EmbeddingFunctions(
        embed=get_embedder(settings.rag_embedding_model), rerank=get_reranker(name).rerank if name else None
    )


@resource
def reader() -> Iterator[None]:
    """Start the process in which files are read; all horses of the host share it."""
    require_full_protection(required=get_services().environment.sandbox == "require")
    get_reader()
    yield
    close_reader()


@resource
def warmup() -> None:
    """Warm up the document pipeline before the fork; the horses share what it builds in memory."""
    warm_up_document(get_services(), embedding_functions().embed, worker_config().settings)
    get_services().database.close()


def get_worker_embedding_functions() -> EmbeddingFunctions:
    """Return `(embed, rerank)`, loaded once per host and shared by all jobs.

    Raises:
        EmbeddingUnavailable: If a model is missing or cannot be loaded.
    """
    return embedding_functions()


def get_embedder(model: str) -> Embedder:
    """Return the embedder of a model; the first call in a process loads it.

    Raises:
        EmbeddingUnavailable: If the model is missing or cannot be loaded.
    """
    with _lock:
        if model not in _embedders:
            _embedders[model] = Embedder.load(find_model(model))
        return _embedders[model]


def get_reranker(model: str) -> CrossEncoder:
    """Return a reranking model; the first call in a process loads it.

    Raises:
        EmbeddingUnavailable: If the model is missing or cannot be loaded.
    """
    with _lock:
        if model not in _rerankers:
            _rerankers[model] = CrossEncoder.load(model, find_reranker(model))
        return _rerankers[model]


def get_model(key: ModelKey) -> Model:
    """Return the model with this key; the first call in a process loads it.

    Raises:
        EmbeddingUnavailable: If the model is missing or cannot be loaded.
    """
    model = get_embedder(key.name) if key.kind == "embedding" else get_reranker(key.name)
    return cast("Model", model)
