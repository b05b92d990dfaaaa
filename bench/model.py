"""The real embedding model as a resource, and jobs that use it; knows nothing of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emberq import resource

if TYPE_CHECKING:
    from emberq.pipeline.embed import Embedder

__all__ = ["embed", "model"]


@resource
def model() -> Embedder:
    """Load the default model."""
    from emberq.pipeline.embed import Embedder
    from emberq.pipeline.model_files import find_model

    return Embedder.load(find_model())


def embed(text: str) -> int:
    """Embed one text and return the length of its vector."""
    return len(model().embed([text])[0])
