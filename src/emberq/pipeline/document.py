"""The data of the pipeline: documents, their segments, and chunks; all of it frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from emberq.errors.file_warnings import FileWarning


class SegmentKind(StrEnum):
    """The kinds of segments; splitting keeps a segment in one chunk if it fits."""

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
        page: 1-based number of its page, slide, sheet or part; None if the format has none.
        level: 1 to 6 for a heading, 0 for other kinds.
        header: Start and end, in the document's text, of the row that names a table's columns, which is not
            after the segment; None if there is none.
    """

    kind: SegmentKind
    start: int
    end: int
    page: int | None = None
    level: int = 0
    header: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file and its structure.

    Attributes:
        text: The whole extracted text: NFC, line feeds as line ends, no NUL.
        media_type: The media type of the file's content, e.g. `application/pdf`.
        segments: Ranges of `text`, in order and without overlap; together they contain all its words.
        page_count: Number of pages, slides, sheets or parts; None if the format has none.
        warnings: What was left out of the text, at most one for each code.
    """

    text: str
    media_type: str
    segments: tuple[Segment, ...]
    page_count: int | None = None
    warnings: tuple[FileWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One searchable piece of a document: `text` is always `document.text[start:end]`.

    Attributes:
        ordinal: 0-based position within the file.
        text: The chunk's text.
        start: Index of its first character in the document's text.
        end: Index after its last character.
        tokens: Its length in the embedding model's tokens, special tokens not counted.
        page: The page on which it starts, as in `Segment.page`.
        heading: The headings above it, outermost first, joined by `split.HEADING_SEPARATOR`.
        header: The names of the columns, if it begins with a later row of a table.
    """

    ordinal: int
    text: str
    start: int
    end: int
    tokens: int
    page: int | None = None
    heading: str | None = None
    header: str | None = None
