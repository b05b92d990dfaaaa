"""What is loaded once, before the fork: an embedding model of 88 MB. Put your own model in its place."""

from __future__ import annotations

from emberq import resource
from emberq.models.embedder import Embedder
from emberq.models.files import find_model


@resource
def model() -> Embedder:
    return Embedder.load(find_model())
