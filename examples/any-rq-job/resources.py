"""What is loaded once, before the fork: an embedding model of 88 MB. Put your own model in its place."""

from __future__ import annotations

from emberq import resource
from emberq.pipeline.embed import Embedder
from emberq.pipeline.model_files import find_model


@resource
def model() -> Embedder:
    return Embedder.load(find_model())
