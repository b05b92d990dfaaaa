"""Finds characters whose fonts do not tell what they show; pdfium then returns codes that mean nothing."""

from __future__ import annotations

import re
from typing import Final

from emberq.pipeline.extract.pdf.lines import SYMBOLS, PageText

#: Characters of a page that are asked for their meaning; all are if one of them has none.
_SAMPLE: Final = 16

#: Codes without a meaning of their own: controls, places for private use, and the mark of a lost character.
_MEANINGLESS: Final = re.compile("[\x01\x03-\x08\x0b\x0e-\x1f\ue000-\uf8ff\ufffd\U000f0000-\U0010ffff]")


def drop_unmapped(page: PageText) -> float:
    """Replace the characters without a known meaning by spaces.

    Returns:
        Their share of all visible characters.
    """
    text = page.text
    step = max(1, len(text) // _SAMPLE)
    is_unmapped = any(map(page.is_unmapped, range(0, len(text), step)))
    if not is_unmapped and not _MEANINGLESS.search(text):
        return 0.0
    kept: list[str] | str = _MEANINGLESS.sub(_meaning, text)
    if is_unmapped:
        kept = [" " if page.is_unmapped(index) else char for index, char in enumerate(kept)]
    dropped = sum(1 for old, new in zip(text, kept, strict=True) if old != new)
    page.text = "".join(kept)
    return dropped / max(1, len(text) - text.count(" ") - text.count("\n") - text.count("\r"))


def _meaning(found: re.Match[str]) -> str:
    return found[0] if found[0] in SYMBOLS else " "
