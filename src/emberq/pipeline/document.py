"""What extraction hands to splitting, and splitting to embedding: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Chunk", "Document", "Segment", "SegmentKind"]


class SegmentKind(StrEnum):
    """What a segment of a document is; splitting keeps these whole where they fit."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Segment:
    """One structural piece of a document's text.

    Attributes:
        kind: Heading, paragraph or table.
        start: Index of its first character in the document's text.
        end: Index after its last character.
        page: 1-based number of the page, slide, sheet or part it stands on, if the format has such.
        level: 1 to 6 for a heading, 0 for everything else.
    """

    kind: SegmentKind
    start: int
    end: int
    page: int | None = None
    level: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file and its structure.

    Attributes:
        text: The whole extracted text: NFC, line feeds as line ends, no NUL.
        media_type: What the bytes are, by content, e.g. `application/pdf`.
        segments: In order, not overlapping, each a range of `text`; together they hold all its words.
        page_count: Number of pages, slides, sheets or parts, if the format has such.
    """

    text: str
    media_type: str
    segments: tuple[Segment, ...]
    page_count: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One searchable piece: `text == document.text[start:end]`, always.

    Attributes:
        ordinal: 0-based position within the file.
        text: The chunk's text.
        start: Index of its first character in the document's text.
        end: Index after its last character.
        tokens: Its length in the embedding model's tokens, special tokens not counted.
        page: Where it starts, as in `Segment.page`.
        heading: The headings above it, outermost first, joined as a reader would write a path through a menu.
    """

    ordinal: int
    text: str
    start: int
    end: int
    tokens: int
    page: int | None = None
    heading: str | None = None
