"""The builder of documents: assembles a `Document` from its pieces and keeps the invariants."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final, TypeAlias

from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document, Segment, SegmentKind
from emberq.pipeline.extract.encoded import drop_encoded
from emberq.pipeline.extract.header import find_header
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.pictures import is_picture

#: Takes the bytes and the name of a file inside a file; returns its document, or None if it cannot be read.
ReadAttachment: TypeAlias = Callable[[bytes, str], Document | None]

#: Rows of a table segment: a few hundred tokens, so that splitting rarely has to cut one.
TABLE_ROWS: Final = 50

#: Longest row of a table whose header is looked for, in characters.
_LONGEST_ROW: Final = 10_000

#: Separates the cells of a row.
_CELL_GAP: Final = " | "

#: Lowest level of a heading.
_MAX_LEVEL: Final = 6

#: Most names that a warning lists, and most characters of one.
MAX_NAMES: Final = 5
MAX_NAME: Final = 200

_LINE_ENDS: Final = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
#: Control characters without meaning in a text (tab and line feed have one), and lone surrogates.
_REFUSED: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
#: Characters without width inside words, which a search would not find: the soft hyphen, the word joiner, and
#: the zero-width space except in scripts that have no other space between words.
_INVISIBLE: Final = re.compile("[\xad\u2060\ufeff]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b")
#: Letters and digits in forms that a search by the plain word would not find: ligatures and full width.
_FORMS: Final = re.compile("[\ufb00-\ufb06\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]+")
#: Most combining marks in a row: the limit of Unicode's stream-safe text format, far above any language.
_MAX_MARKS: Final = 30
#: A run that may be longer: combining marks are neither letters, digits nor white space.
_MANY_MARKS: Final = re.compile(rf"[^\w\s\x00-\x7f]{{{_MAX_MARKS + 1},}}")


def clean(text: str) -> str:
    r"""Return the text as a `Document` requires it: NFC, `\n` line ends, no controls, no lone surrogates.

    Soft hyphens, zero-width spaces and base64 are left out; ligatures and letters of full width become plain
    letters. Of more than 30 combining marks in a row the
    first 30 are kept: NFC sorts each run in quadratic time.
    """
    if _LINE_ENDS.search(text):
        text = _LINE_ENDS.sub("\n", text)
    if _REFUSED.search(text):
        text = _REFUSED.sub("", text)
    text = drop_encoded(text)
    if text.isascii():
        return text
    if "\xad" in text or "\u200b" in text or "\u2060" in text or "\ufeff" in text:
        text = _INVISIBLE.sub("", text)
    text = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFC", _MANY_MARKS.sub(_cut_marks, text))


def _cut_marks(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for char in run[0]:
        marks = marks + 1 if _is_mark(char) else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)


@cache
def _is_mark(char: str) -> bool:
    """Return whether NFC may have to sort a character: it is a combining mark, or decomposes into them."""
    return unicodedata.combining(unicodedata.normalize("NFD", char)[0]) > 0


def squeeze(text: str) -> str:
    """Return the text on one line, with each run of white space as one space."""
    return " ".join(text.split())


class DocumentBuilder:
    """Appends headings, paragraphs and tables to a document.

    Invariants of the document: the text is clean (see `clean`). Segments are in order, do not overlap, are
    within the text, are not blank, and neither begin nor end with white space. Between them there is only
    white space.
    """

    def __init__(self, meter: Meter | None = None, *, read_attachment: ReadAttachment | None = None) -> None:
        """Begin a document.

        Args:
            meter: Counts the text and its segments, and the unpacked bytes of what is read.
            read_attachment: Reads files inside the file; they are left out if it is not given.
        """
        self.meter = meter or Meter()
        self._read_attachment = read_attachment
        self._warnings: dict[WarningCode, FileWarning] = {}
        self._parts: list[str] = []
        self._length = 0
        self._segments: list[Segment] = []
        self._visible = False
        self._ahead: tuple[str, int] | None = None
        #: 1-based number of the page, slide, sheet or part of the next segments.
        self.page: int | None = None

    @property
    def is_blank(self) -> bool:
        """Whether no visible character has been appended."""
        return not self._visible

    def heading(self, text: str, level: int, *, if_followed: bool = False) -> None:
        """Append a heading on a line of its own.

        Args:
            text: Its words; line ends become spaces.
            level: 1 for the highest; limited to 1 to 6.
            if_followed: Whether it is only appended once anything follows, before that.
        """
        if if_followed:
            self._ahead = (text, level)
        else:
            self._append(SegmentKind.HEADING, squeeze(text), level=level)

    def drop_heading(self) -> bool:
        """Forget a heading that nothing has followed; return whether there was one."""
        dropped, self._ahead = self._ahead is not None, None
        return dropped

    def has(self, text: str) -> bool:
        """Return whether a text is in one of the document's pieces."""
        text = squeeze(clean(text))
        return any(text in piece for piece in self._parts)

    def paragraph(self, text: str, *, tight: bool = False) -> None:
        r"""Append a paragraph.

        Args:
            text: Its text; line ends within it are kept.
            tight: Whether it begins on the next line, without a blank line, as list items do.
        """
        self._append(SegmentKind.PARAGRAPH, text, gap="\n" if tight else "\n\n")

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Append rows as lines of `a | b | c`, in segments of `TABLE_ROWS` rows; empty rows are left out.

        Each segment knows the row that names the columns, if `find_header` finds one.
        """
        gap = "\n\n"
        block: list[str] = []
        first: list[Sequence[str]] | None = []
        header: tuple[int, int] | None = None
        size = 0
        for row in rows:
            line = self._row(row, size)
            if not line:
                continue
            block.append(line)
            size += len(line)
            if first is not None:
                first.append(row)
            if len(block) == TABLE_ROWS:
                header = self._append_rows(block, first, header, gap)
                first, gap, size = None, "\n", 0
                block.clear()
        self._append_rows(block, first, header, gap)

    def _append_rows(
        self,
        lines: list[str],
        first: list[Sequence[str]] | None,
        header: tuple[int, int] | None,
        gap: str,
    ) -> tuple[int, int] | None:
        """Append lines of a table; find its header if these are its first rows, and return its range."""
        if not self._append(SegmentKind.TABLE, "\n".join(lines), gap=gap):
            return header
        if first is not None:
            header = self._find_header(lines, first)
        if header is not None:
            self._segments[-1] = replace(self._segments[-1], header=header)
        return header

    def _find_header(self, lines: list[str], rows: list[Sequence[str]]) -> tuple[int, int] | None:
        """Return where the header is in the segment that has just been appended."""
        if max(map(len, lines)) > _LONGEST_ROW:
            return None
        index = find_header(rows)
        if index is None:
            return None
        line = clean(lines[index]).strip()
        at = f"\n{self._parts[-1]}\n".find(f"\n{line}\n")
        start = self._segments[-1].start + at
        return (start, start + len(line)) if at >= 0 and line else None

    def extend(self, text: str, segments: Iterable[Segment]) -> None:
        """Append a text unchanged, with its own segments.

        Words outside all segments become paragraphs; segments are trimmed to their visible part.

        Args:
            text: A text that `clean` returned.
            segments: Ranges of `text`, in order and without overlap.
        """
        self.meter.add_text(len(text))
        self._extend(text, segments, None)

    def warn(self, code: WarningCode, *names: str, count: int | None = None) -> None:
        """Note what is left out of the text; warnings of one code become one.

        Args:
            code: The kind.
            names: The names of what is left out, where they have names.
            count: How many; the number of names, or 1, if left out.
        """
        short = tuple(squeeze(clean(name))[:MAX_NAME] for name in names)
        self._add_warning(FileWarning(code, count or max(len(names), 1), short))

    def attach(self, data: bytes, name: str, *, level: int = 2, is_own_text: bool = False) -> None:
        """Append a file inside the file: its name as a heading, then its text and headings below.

        If it cannot be read, a paragraph with its name and a warning are left instead.

        Args:
            data: Its bytes.
            name: Its name; may be empty.
            level: The level of the heading.
            is_own_text: Whether its text is a piece of this file's text; its name is then no heading.
        """
        document = self._read_attachment(data, name) if data and self._read_attachment else None
        if document is not None:
            has_heading = bool(name) and not is_own_text
            if has_heading:
                self.heading(name, level)
            self.insert(document, deeper=level if has_heading else 0)
            return
        if name:
            self.paragraph(f"Attachment: {name}")
        self.warn(_code_of(data, name), *filter(None, [name]))

    def begin_part(self) -> DocumentBuilder:
        """Return an empty builder for a part that may be left out; the same meter counts its text."""
        part = DocumentBuilder(self.meter, read_attachment=self._read_attachment)
        part.page = self.page
        return part

    def append_part(self, part: DocumentBuilder) -> None:
        """Append what a builder that `begin_part` returned has read, with its pages."""
        document = part.build("")
        self._extend(document.text, document.segments, None)
        for warning in document.warnings:
            self._add_warning(warning)

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def add_member(self, data: bytes, path: str) -> None:
        """Append a file of an archive: its path as a heading, then its text and headings below.

        If it cannot be read, a warning is left.

        Args:
            data: Its bytes.
            path: Its path in the archive.
        """
        document = self._read_attachment(data, path) if self._read_attachment else None
        if document is None:
            self.warn(_code_of(data, path), path)
            return
        self.heading(path, 1)
        self.insert(document, deeper=1)

    def insert(self, document: Document, *, deeper: int = 0) -> None:
        """Append a document, whose text the same meter has counted, as on the present page.

        Args:
            document: The document.
            deeper: How many levels its headings go down.
        """
        segments = document.segments
        if deeper:
            segments = tuple(
                replace(segment, level=segment.level + deeper) if segment.level else segment
                for segment in segments
            )
        self._extend(document.text, segments, self.page)
        for warning in document.warnings:
            self._add_warning(warning)

    def _add_warning(self, new: FileWarning) -> None:
        old = self._warnings.get(new.code, FileWarning(new.code, 0))
        names = (*old.names, *new.names)[:MAX_NAMES]
        self._warnings[new.code] = FileWarning(new.code, old.count + new.count, names)

    def _extend(self, text: str, segments: Iterable[Segment], page: int | None) -> None:
        if not text:
            return
        origin = self._begin("\n\n")
        self._parts.append(text)
        self._length += len(text)
        done = 0
        for segment in segments:
            self._mark(text, Segment(SegmentKind.PARAGRAPH, done, segment.start), origin, page)
            self._mark(text, segment, origin, page)
            done = segment.end
        self._mark(text, Segment(SegmentKind.PARAGRAPH, done, len(text)), origin, page)

    def build(self, media_type: str, *, page_count: int | None = None) -> Document:
        """Return the document.

        Args:
            media_type: The media type of the file.
            page_count: Number of pages; None if the format has none.
        """
        warnings = tuple(self._warnings.values())
        return Document("".join(self._parts), media_type, tuple(self._segments), page_count, warnings)

    def _begin(self, gap: str) -> int:
        if self._ahead is not None:
            (text, level), self._ahead = self._ahead, None
            self.heading(text, level)
        if self._parts:
            self._parts.append(gap)
            self._length += len(gap)
        return self._length

    def _append(self, kind: SegmentKind, text: str, *, level: int = 0, gap: str = "\n\n") -> bool:
        """Append a segment; return False if its text has nothing visible."""
        text = clean(text).strip()
        if not _is_visible(text):
            return False
        self._visible = True
        self.meter.add_text(len(text))
        self.meter.add_segment()
        start = self._begin(gap)
        self._parts.append(text)
        self._length += len(text)
        self._segments.append(_segment(kind, start, self._length, self.page, level))
        return True

    def _row(self, cells: Sequence[str], before: int) -> str:
        """Return a row as a line; `before` is the length of the block's other lines."""
        if self.meter.has_room(before + sum(map(len, cells)) + len(_CELL_GAP) * len(cells)):
            texts = [" ".join(cell.split()) for cell in cells]
        else:
            # A small file can name one long text in many cells.
            texts = []
            size = before
            for cell in cells:
                texts.append(squeeze(cell))
                size += len(texts[-1]) + len(_CELL_GAP)
                self.meter.expect_text(size)
        while texts and not texts[-1]:
            texts.pop()
        return _CELL_GAP.join(texts)

    def _mark(self, text: str, segment: Segment, origin: int, page: int | None) -> None:
        """Add a segment for a range of an appended text, trimmed, unless the range is blank."""
        piece = text[segment.start : segment.end]
        start = segment.start + len(piece) - len(piece.lstrip())
        end = segment.end - (len(piece) - len(piece.rstrip()))
        if start >= end:
            return
        self._visible = self._visible or _is_visible(piece)
        self.meter.add_segment()
        number = page or segment.page or self.page
        new = _segment(segment.kind, origin + start, origin + end, number, segment.level)
        if segment.header is not None:
            new = replace(new, header=(origin + segment.header[0], origin + segment.header[1]))
        self._segments.append(new)


def _code_of(data: bytes, name: str) -> WarningCode:
    """Return the code for a file inside the file that was not read."""
    return WarningCode.IMAGES_SKIPPED if is_picture(data, name) else WarningCode.ATTACHMENT_UNREADABLE


def _segment(kind: SegmentKind, start: int, end: int, page: int | None, level: int) -> Segment:
    kept = min(max(level, 1), _MAX_LEVEL) if kind is SegmentKind.HEADING else 0
    return Segment(kind, start, end, page, kept)


def _is_visible(text: str) -> bool:
    """Return whether any character is visible: not white space, of zero width, or a mark of direction."""
    return any(char.isprintable() and not char.isspace() for char in text)
