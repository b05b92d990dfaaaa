"""Headings and paragraphs of a PDF, by the places and sizes of its lines."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.layout.placed import Line

#: A paragraph ends where the gap between two lines is more than this many times the page's usual gap.
_GAP: Final = 1.25

#: A line is a heading if its letters are more than this many times as high as those of the body.
_HEADING: Final = 1.15

#: Most characters of a heading; longer blocks in large letters are introductions or posters.
_HEADING_LENGTH: Final = 200

#: Letters have the same size if their heights differ by less than this share.
_SAME_SIZE: Final = 0.08

#: What pdfium returns for a hyphen at the end of a line, which it joins with the next.
_HYPHEN: Final = re.compile("[\x02\ufffe]\n?")
#: A hyphen before one of these words stands for the rest of a word: "Haupt- und Nebensatz".
_JOINED: Final = re.compile(r"(?:und|oder|bzw|sowie|bis|and|or|to)\b")


def write_blocks(
    pages: Sequence[Sequence[Line]], build: DocumentBuilder, *, end_page: Callable[[int], None]
) -> None:
    """Append the lines of all pages as headings and paragraphs.

    Args:
        pages: The lines of each page, in reading order.
        build: Takes the blocks.
        end_page: Called with the index of each page after its blocks.
    """
    sizes: Counter[float] = Counter()
    for line in (line for page in pages for line in page):
        sizes[round(line.size, 1)] += len(line.text)
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    blocks = [list(_blocks(page)) for page in pages]
    larger = {round(block[0].size) for page in blocks for block in page if _is_large(block, body)}
    levels = {size: level for level, size in enumerate(sorted(larger, reverse=True), 1)}
    for index, page in enumerate(blocks):
        build.page = index + 1
        for block in page:
            if block[0].level:
                build.heading(_join(block), block[0].level)
            elif _is_large(block, body):
                build.heading(_join(block), levels[round(block[0].size)])
            else:
                build.paragraph(_join(block))
        end_page(index)


def _blocks(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Divide a page's lines where the gap is wide, the size of the letters changes, or a column ends."""
    steps = [above.bottom - line.bottom for above, line in pairwise(lines)]
    downward = [step for step in steps if step > 0]
    usual = statistics.median_low(downward) if downward else 0.0
    block = list(lines[:1])
    for line, step in zip(lines[1:], steps, strict=False):
        above = block[-1]
        resized = abs(line.size - above.size) > _SAME_SIZE * max(line.size, above.size)
        is_other = line.turned != above.turned or line.level or above.level
        # The cells of a row are side by side, without a step, so they are one paragraph.
        if resized or is_other or step > _GAP * usual or step < -above.size:
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _is_large(block: Sequence[Line], body: float) -> bool:
    return block[0].size > _HEADING * body and sum(len(line.text) for line in block) <= _HEADING_LENGTH


def _join(block: Iterable[Line]) -> str:
    """Join lines, and words that are hyphenated at the end of a line."""
    text = "\n".join(line.text for line in block)
    return _HYPHEN.sub(_hyphen, text) if _HYPHEN.search(text) else text


def _hyphen(found: re.Match[str]) -> str:
    """Return what stands for a hyphen at the end of a line: nothing, if it only divides a word."""
    start, end = found.span()
    before, after = found.string[max(0, start - 1) : start], found.string[end : end + 20]
    if _JOINED.match(after):
        return "- "
    # "Fax-Anschluss" and "COVID-19" have a hyphen of their own, "HEAD-LINE" in capitals has not.
    belongs = after[:1].isdigit() or (after[:1].isupper() and before.islower())
    return "-" if belongs else ""
