"""The real embedding model as a resource, and jobs that use it; knows nothing of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emberq import resource

if TYPE_CHECKING:
    from emberq.models.embedder import Embedder

__all__ = ["TEXT", "embed", "model"]

#: The text of an ordinary job: about 150 tokens.
TEXT = "A worker that keeps its model in memory answers at once. " * 12


@resource
def model() -> Embedder:
    """Load the default model."""
    from emberq.models.embedder import Embedder
    from emberq.models.files import find_model

    embedder = Embedder.load(find_model())
    # As the documentation advises: what first runs leave in memory is shared if they come before the fork.
    embedder.warm_up([TEXT] * 12)
    return embedder


def embed(text: str) -> int:
    """Embed one text and return the length of its vector."""
    return len(model().embed([text])[0])
