"""Splitting: a document is cut into chunks along its structure, none longer than the model's limit.

The rules for where a chunk ends, strongest first:

1. A heading begins a new chunk, and is in the same chunk as the text after it.
2. The end of a page ends a chunk, unless the chunk would be less than a quarter full.
3. A paragraph or table that fits is not cut; small neighbours share a chunk.
4. A table that does not fit is cut after a row. A paragraph is cut after a sentence, otherwise after a
   line, a word or a token.

A chunk overlaps with the last sentences or words of the chunk before it in the same section, but not
across the end of a page: the overlap would be cited with the wrong page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from emberq.errors import FileTooLarge, InvalidRequest
from emberq.pipeline.document import Chunk, Document, Segment, SegmentKind
from emberq.pipeline.token_stream import TokenStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer


#: Separates the headings of a chunk's path.
HEADING_SEPARATOR = " › "  # noqa: RUF001 - typography
#: Most characters of one heading in the path; longer headings are mostly paragraphs in a heading's style.
_HEADING_CHARS = 120
#: A chunk may end early, at a better place, once this fraction of it is full: 4 stands for a quarter.
_LEAST_PART = 4
#: The end of a sentence: a punctuation mark and closing quotes, followed by white space and not by a
#: lower-case letter ("e.g. a case"); a full-width mark, which needs no white space; or an empty line.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]»]*(?=\s+[^\sa-z])|[。！？][”’」』）]*|\n[^\S\n]*\n")  # noqa: RUF001
_LINE_END = re.compile(r"\n")
_BLANK = re.compile(r"\s+")
_VISIBLE = re.compile(r"\S")
#: Characters after the longest possible piece that are read to tell a sentence's end from an abbreviation.
_AFTER_SENTENCE = 8


class _Piece(NamedTuple):
    """A range of the text that becomes a chunk."""

    start: int
    end: int
    tokens: int
    page: int | None


def split(
    document: Document,
    tokenizer: Tokenizer,
    *,
    chunk_size: int,
    chunk_overlap: int,
    max_chunks: int | None = None,
    check: Callable[[], None] | None = None,
) -> list[Chunk]:
    """Return the chunks of a document.

    Needs time in proportion to the text, and memory for a few chunks besides the result.

    Args:
        document: The extracted text and its segments.
        tokenizer: The embedding model's tokenizer, which neither truncates nor pads.
        chunk_size: Most tokens of a chunk, special tokens not counted. Only a single character that
            has more tokens exceeds it.
        chunk_overlap: Most tokens that a chunk shares with the one before it; at most half of `chunk_size`
            is used.
        max_chunks: Most chunks; no limit if left out.
        check: Called before each chunk; ends the work by an exception.

    Returns:
        Chunks in order of their start. Every visible character of every segment is in at least one.

    Raises:
        FileTooLarge: If there are more than `max_chunks`.
        InvalidRequest: If `chunk_size` is less than 1 or `chunk_overlap` less than 0.
    """
    if chunk_size < 1 or chunk_overlap < 0:
        raise InvalidRequest(
            f"Chunks of {chunk_size} tokens with an overlap of {chunk_overlap} are not possible."
        )
    chunks: list[Chunk] = []
    for heading, segments in _sections(document):
        stream = TokenStream(document.text, segments, tokenizer)
        cutter = _Cutter(document.text, stream, chunk_size, min(chunk_overlap, chunk_size // 2))
        for start, end, tokens, page in cutter.pieces(segments[0].start):
            if check is not None:
                check()
            if len(chunks) == max_chunks:
                raise FileTooLarge(
                    f"The text makes more than {max_chunks:,} chunks, the most for its length.",
                    hint="Split the file, or raise the setting rag_chunk_size or file_budget.",
                )
            chunks.append(Chunk(len(chunks), document.text[start:end], start, end, tokens, page, heading))
    return chunks


def embedding_text(chunk: Chunk, tokenizer: Tokenizer, *, max_tokens: int) -> str:
    """Return the text that is embedded for a chunk: the headings above it, a line end, and its own text.

    Headings that the text begins with are not repeated. The headings are left out if the text with them
    would exceed the model's limit.

    Args:
        chunk: The chunk.
        tokenizer: The embedding model's tokenizer, which neither truncates nor pads.
        max_tokens: Most tokens of a text, special ones counted.
    """
    if not chunk.heading:
        return chunk.text
    opening = " ".join(chunk.text[: 2 * _HEADING_CHARS].split())
    above: list[str] = []
    for title in chunk.heading.split(HEADING_SEPARATOR):
        if f"{opening} ".startswith(f"{title} "):
            break
        above.append(title)
    if not above:
        return chunk.text
    text = f"{HEADING_SEPARATOR.join(above)}\n{chunk.text}"
    return text if len(tokenizer.encode(text)) <= max_tokens else chunk.text


def _sections(document: Document) -> Iterator[tuple[str | None, Sequence[Segment]]]:
    """Yield the heading path and the segments of each section; no chunk crosses a section's end.

    Headings with nothing between them begin one section, which has the path of the last heading.
    """
    path: list[tuple[int, str]] = []
    name: str | None = None
    section: list[Segment] = []
    only_headings = True
    for segment in document.segments:
        if not _VISIBLE.search(document.text, segment.start, segment.end):
            continue
        is_heading = segment.kind is SegmentKind.HEADING
        closes = is_heading and not only_headings
        if section and (closes or _VISIBLE.search(document.text, section[-1].end, segment.start)):
            yield name, section
            section, only_headings = [], True
        if is_heading:
            # The slice is longer than the path keeps, because white space is dropped from it.
            words = document.text[
                segment.start : min(segment.end, segment.start + 4 * _HEADING_CHARS)
            ].split()
            path = [step for step in path if step[0] < segment.level]
            path.append((segment.level, " ".join(words)[:_HEADING_CHARS].rstrip()))
            name = HEADING_SEPARATOR.join(title for _, title in path)
        section.append(segment)
        only_headings &= is_heading
    if section:
        yield name, section


class _Cutter:
    """Cuts one section into pieces.

    In all methods, `start` is the first character of a piece, and `floor` the first character that is in
    no earlier piece. The text between them is overlap, and a piece must end after the floor.
    """

    def __init__(self, text: str, stream: TokenStream, size: int, overlap: int) -> None:
        self._text = text
        self._stream = stream
        self._size = size
        self._overlap = overlap
        #: Tokens to read from a piece's start: enough for the piece and the one after it.
        self._ahead = 2 * size + 1

    def pieces(self, first: int) -> Iterator[_Piece]:
        """Yield the pieces of the section that begins at `first`."""
        self._stream.fill(first, self._ahead)
        start = floor = self._stream.visible(first)
        while start is not None and floor is not None:
            self._stream.fill(start, self._ahead)
            piece, cut = self._piece(start, floor)
            yield piece
            floor = self._stream.visible(cut)
            start = floor if floor is None else self._overlap_start(piece.start, floor)

    def _piece(self, start: int, floor: int) -> tuple[_Piece, int]:
        """Return a piece and the index at which it was cut; it is shortened until it has the size."""
        reach = self._reach(start)
        while True:
            if reach <= floor and start < floor:
                start, reach = floor, self._reach(floor)
            reach = max(reach, floor + 1)
            cut = self._cut(start, floor, reach)
            end = start + len(self._text[start:cut].rstrip())
            tokens, allowed = self._stream.measure(start, end, self._size)
            if tokens <= self._size or (start == floor and end == floor + 1):
                page = self._stream.borders[self._stream.border_at(start)].segment.page
                return _Piece(start, end, tokens, page), cut
            reach = min(allowed, end - 1)

    def _reach(self, start: int) -> int:
        """Return the index at which a piece would end if only its size mattered."""
        beyond = self._stream.index(start) + self._size
        return self._stream.starts[beyond] if beyond < len(self._stream.starts) else self._stream.end

    def _cut(self, start: int, floor: int, reach: int) -> int:
        """Return the best index to end a piece: after the floor, and not after `reach`."""
        stream = self._stream
        enough = stream.index(start) + max(1, self._size // _LEAST_PART)
        least = stream.starts[min(enough, len(stream.starts) - 1)]
        inner = range(stream.border_at(floor) + 1, stream.border_at(reach) + 1)
        for index in inner:
            border = stream.borders[index]
            if border.turns_page and border.start >= least:
                return border.start
        if stream.exhausted and reach == stream.end:
            return reach
        for index in reversed(inner):
            border = stream.borders[index]
            fits = self._tokens_of_segment(index) <= self._size
            if not border.after_heading and (border.start >= least or fits):
                return border.start
        return self._cut_inside(floor, least, reach)

    def _cut_inside(self, floor: int, least: int, reach: int) -> int:
        """Return the best index to cut a segment that does not fit."""
        text = self._text
        border = self._stream.borders[self._stream.border_at(reach - 1)]
        if border.segment.kind is SegmentKind.TABLE:
            row_end = text.rfind("\n", max(floor, border.start), reach)
            if row_end >= 0:
                return row_end + 1
        low = max(floor, least, border.start)
        # The white space and the letter after a sentence may be after the reach, but not the sentence's mark.
        matches = _SENTENCE_END.finditer(text, low, min(reach + _AFTER_SENTENCE, len(text)))
        ends = [match.end() for match in matches if match.end() <= reach]
        if ends:
            return ends[-1]
        line_end = text.rfind("\n", low, reach)
        if line_end >= 0:
            return line_end + 1
        return next((at for at in range(reach, low, -1) if text[at - 1].isspace()), reach)

    def _overlap_start(self, previous: int, floor: int) -> int:
        """Return the start of the next piece, which is after the start of the previous one."""
        stream, text = self._stream, self._text
        token = stream.index(floor)
        here = stream.border_at(floor)
        room = self._overlap
        between_segments = stream.borders[here].start == floor
        if between_segments:
            # A segment that fits into a chunk must not be cut to make room for the overlap.
            length = self._tokens_of_segment(here)
            room = min(room, self._size - length) if length <= self._size else room
        earliest = max(token - room, stream.index(previous + 1))
        if earliest >= token:
            return floor
        low = stream.starts[earliest]
        page_turns = (border.start for border in reversed(stream.borders[: here + 1]) if border.turns_page)
        low = max(low, next(page_turns, low))
        if stream.borders[stream.border_at(floor - 1)].segment.kind is SegmentKind.TABLE:
            patterns = [_LINE_END]
        else:
            patterns = [_SENTENCE_END] if between_segments else [_SENTENCE_END, _BLANK]
        for pattern in patterns:
            for match in pattern.finditer(text, max(previous + 1, low - 2), floor + 1):
                at = stream.visible(match.end())
                if at is not None and low <= at < floor:
                    return at
        return low if _BLANK in patterns and not _BLANK.search(text, low, floor) else floor

    def _tokens_of_segment(self, index: int) -> int:
        """Return the tokens of the segment at a border; if its end has not been read, more than fit."""
        stream = self._stream
        if index + 1 < len(stream.borders):
            end = stream.borders[index + 1].start
        elif stream.exhausted:
            end = stream.end
        else:
            return self._ahead
        return stream.index(end) - stream.index(stream.borders[index].start)
