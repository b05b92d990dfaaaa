"""The extraction of documents from files: one module for each family of file formats."""

from __future__ import annotations

from emberq.pipeline.extract.read import extract

__all__ = ["extract"]
