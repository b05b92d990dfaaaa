"""A PDF's outline: the titles of its chapters, which tell what its headings are."""

from __future__ import annotations

import ctypes
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pypdfium2 import raw

from emberq.pipeline.extract.layout.placed import Line
from emberq.pipeline.extract.pdf.strings import utf16

#: Most entries that are looked at, and most levels.
MAX_ENTRIES: Final = 20_000
_MAX_LEVEL: Final = 6

#: What is left out of titles when they are compared: numbers before them, spaces and punctuation.
_NUMBER: Final = re.compile(r"^(?:[\dA-Z]{1,3}\.)*[\dIVX]*[.)]?\s+")
_NUMBERED: Final = re.compile(r"[\dixv(]|\w\.")
_OTHER: Final = re.compile(r"[\W_]+")

#: Most lines and characters of a title.
_TITLE_LINES: Final = 3
_MAX_TITLE: Final = 300


def read_outline(document: Any) -> dict[int, list[tuple[str, int]]]:
    """Return the titles of the outline and their levels, by the index of their page."""
    found: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for count, (bookmark, level) in enumerate(_walk(document)):
        if count == MAX_ENTRIES:
            break
        title = " ".join(utf16(raw.FPDFBookmark_GetTitle, bookmark).split())
        place = raw.FPDFBookmark_GetDest(document, bookmark)
        if not place and (action := raw.FPDFBookmark_GetAction(bookmark)):
            place = raw.FPDFAction_GetDest(document, action)
        page = raw.FPDFDest_GetDestPageIndex(document, place) if place else -1
        if title and page >= 0:
            found[page].append((title, level))
    return found


def _walk(document: Any) -> Iterator[tuple[Any, int]]:
    """Yield each entry and its level; a hostile outline may contain itself, so no entry comes twice."""
    seen: set[int] = set()
    waiting = [(raw.FPDFBookmark_GetFirstChild(document, None), 1)]
    while waiting:
        bookmark, level = waiting.pop()
        address = _address(bookmark)
        if not address or address in seen:
            continue
        seen.add(address)
        yield bookmark, level
        waiting.append((raw.FPDFBookmark_GetNextSibling(document, bookmark), level))
        if level < _MAX_LEVEL:
            waiting.append((raw.FPDFBookmark_GetFirstChild(document, bookmark), level + 1))


def with_headings(lines: list[Line], titles: list[tuple[str, int]]) -> list[Line]:
    """Return a page's lines with the outline's headings; titles that are not on the page come first."""
    wanted = {plain: level for title, level in reversed(titles) if (plain := _plain(title))}
    text = _plain("".join(line.text for line in lines))
    above = [(title, level) for title, level in titles if (plain := _plain(title)) and plain not in text]
    model = lines[0] if lines else Line("", 0, 0, 0, 0, 1.0)
    marked = [replace(model, text=title, level=level, start=-1) for title, level in above]
    firsts = {plain[0] for plain in wanted}
    index = 0
    while index < len(lines):
        count = _title_at(lines, index, wanted, firsts) if wanted else 0
        if count:
            title = lines[index : index + count]
            level = wanted.pop(_plain("".join(line.text for line in title)))
            words = " ".join(line.text for line in title)
            marked.append(replace(title[0], text=words, bottom=title[-1].bottom, level=level, start=-1))
            index += count
        else:
            marked.append(lines[index])
            index += 1
    return marked


def _title_at(lines: list[Line], index: int, wanted: Mapping[str, int], firsts: Collection[str]) -> int:
    """Return how many lines from here on are a title that is looked for; 0 if none."""
    # Most lines begin with another letter than all titles, and without a number.
    beginning = lines[index].text.lstrip()[:2].casefold()
    if beginning[:1] not in firsts and not _NUMBERED.match(beginning):
        return 0
    text = ""
    for count, line in enumerate(lines[index : index + _TITLE_LINES], 1):
        text += line.text
        if len(text) > _MAX_TITLE:
            break
        if _plain(text) in wanted:
            return count
    return 0


def _plain(title: str) -> str:
    """Return a title as it is compared: without numbering, spaces, punctuation and the case of letters."""
    return _OTHER.sub("", _NUMBER.sub("", title.strip())).casefold()


def _address(bookmark: Any) -> int | None:
    return ctypes.cast(bookmark, ctypes.c_void_p).value
