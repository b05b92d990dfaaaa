"""Sentences in many languages, and the legacy encodings in which files have them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

__all__ = ["LEGACY_TEXTS", "LegacyText"]


class LegacyText(NamedTuple):
    """A text in one of the encodings of its language."""

    language: str
    encoding: str
    text: str


_FILE = Path(__file__).parents[1] / "data" / "legacy_texts.toml"
LEGACY_TEXTS = [
    LegacyText(one["language"], encoding, one["text"])
    for one in tomllib.loads(_FILE.read_text("utf-8"))["text"]
    for encoding in one["encodings"]
]
