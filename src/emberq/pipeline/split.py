"""A document into chunks: along its structure, never longer than the model can see.

What decides where a chunk ends, strongest first:

1. A heading begins a new chunk, and stays with what follows it.
2. A page ends a chunk, unless that would leave less than a quarter of a chunk.
3. Paragraphs and tables stay whole where they fit; small neighbours share a chunk.
4. A table that does not fit is cut after a row; a paragraph after a sentence, else after a line, a
   word, a token.

Chunks of one section overlap by the last sentences or words of the one before, but never over a page's
end, where the overlap would be cited with the wrong page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from emberq.errors import InvalidRequest
from emberq.pipeline.document import Chunk, Document, Segment, SegmentKind
from emberq.pipeline.token_stream import TokenStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["HEADING_SEPARATOR", "embedding_text", "iter_chunks", "split"]

#: Between the headings of a chunk's path.
HEADING_SEPARATOR = " › "  # noqa: RUF001 - typography
#: Characters of one heading kept in the path; longer ones are mostly paragraphs in a heading's style.
_HEADING_CHARS = 120
#: A chunk may end early, for a better place, when it is at least this part full: one in four.
_LEAST_PART = 4
#: The end of a sentence: its mark and closing quotes, before a blank and no lower-case letter ("e.g. a
#: case"); the full-width marks, which need no blank; an empty line.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]»]*(?=\s+[^\sa-z])|[。！？][”’」』）]*|\n[^\S\n]*\n")  # noqa: RUF001
_LINE_END = re.compile(r"\n")
_BLANK = re.compile(r"\s+")
_VISIBLE = re.compile(r"\S")
#: Characters behind the reach that may be looked at to tell a sentence's end from an abbreviation.
_AFTER_SENTENCE = 8


class _Piece(NamedTuple):
    start: int
    end: int
    tokens: int
    page: int | None


def split(document: Document, tokenizer: Tokenizer, *, chunk_size: int, chunk_overlap: int) -> list[Chunk]:
    """Return the chunks of a document; `iter_chunks` gives them one by one.

    Args:
        document: The extracted text and its segments.
        tokenizer: The embedding model's, set to neither cut nor pad.
        chunk_size: Most tokens of a chunk, special tokens not counted. Kept always, but for a single
            character that alone has more.
        chunk_overlap: Most tokens a chunk shares with the one before it; half of `chunk_size` at most.

    Returns:
        Chunks in order of their start. Every visible character of every segment is in at least one.

    Raises:
        InvalidRequest: If `chunk_size` is less than 1 or `chunk_overlap` less than 0.
    """
    return list(iter_chunks(document, tokenizer, chunk_size=chunk_size, chunk_overlap=chunk_overlap))


def iter_chunks(
    document: Document, tokenizer: Tokenizer, *, chunk_size: int, chunk_overlap: int
) -> Iterator[Chunk]:
    """Yield the chunks of a document; arguments and errors as in `split`.

    Takes time in proportion to the text, and memory for a few chunks.
    """
    if chunk_size < 1 or chunk_overlap < 0:
        raise InvalidRequest(
            f"A chunk of {chunk_size} tokens with an overlap of {chunk_overlap} cannot be made."
        )
    ordinal = 0
    for heading, segments in _sections(document):
        stream = TokenStream(document.text, segments, tokenizer)
        cutter = _Cutter(document.text, stream, chunk_size, min(chunk_overlap, chunk_size // 2))
        for start, end, tokens, page in cutter.pieces(segments[0].start):
            yield Chunk(ordinal, document.text[start:end], start, end, tokens, page, heading)
            ordinal += 1


def embedding_text(chunk: Chunk, tokenizer: Tokenizer, *, max_tokens: int) -> str:
    """Return what is embedded for a chunk: the headings above it, a line end, and its text.

    Headings that the text itself begins with are not repeated, and none are put before it if the whole
    would exceed the model's limit.

    Args:
        chunk: The chunk.
        tokenizer: The embedding model's, set to neither cut nor pad.
        max_tokens: Most tokens that the model sees, special ones counted.
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
    """Yield the heading path and the segments of each stretch that chunks must not reach across.

    Headings without anything between them begin one stretch together, under the path of the last.
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
            # The slice leaves room for blanks, which the path does not keep.
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

    In all its methods `start` is where a piece begins and `floor` the first character that no earlier
    piece has: what lies between them is overlap, and a piece must end behind the floor.
    """

    def __init__(self, text: str, stream: TokenStream, size: int, overlap: int) -> None:
        self._text = text
        self._stream = stream
        self._size = size
        self._overlap = overlap
        #: Tokens to see from a piece's start: the piece, and whether what follows it fits into the next.
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
        """Return a piece and where it was cut, shortened until it keeps the size."""
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
        """Return where a piece would end if nothing but its size mattered."""
        beyond = self._stream.index(start) + self._size
        return self._stream.starts[beyond] if beyond < len(self._stream.starts) else self._stream.end

    def _cut(self, start: int, floor: int, reach: int) -> int:
        """Return the best place behind the floor, and not behind `reach`, to end a piece."""
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
        """Return the best place within a segment that does not fit."""
        text = self._text
        border = self._stream.borders[self._stream.border_at(reach - 1)]
        if border.segment.kind is SegmentKind.TABLE:
            row_end = text.rfind("\n", max(floor, border.start), reach)
            if row_end >= 0:
                return row_end + 1
        low = max(floor, least, border.start)
        # The mark's blank and the letter after it may lie behind the reach, but not the mark.
        matches = _SENTENCE_END.finditer(text, low, min(reach + _AFTER_SENTENCE, len(text)))
        ends = [match.end() for match in matches if match.end() <= reach]
        if ends:
            return ends[-1]
        line_end = text.rfind("\n", low, reach)
        if line_end >= 0:
            return line_end + 1
        return next((at for at in range(reach, low, -1) if text[at - 1].isspace()), reach)

    def _overlap_start(self, previous: int, floor: int) -> int:
        """Return where the next piece begins: behind the start of the one before it."""
        stream, text = self._stream, self._text
        token = stream.index(floor)
        here = stream.border_at(floor)
        room = self._overlap
        between_segments = stream.borders[here].start == floor
        if between_segments:
            # A segment that fits into a chunk is not cut for the sake of the overlap.
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
        """Return the tokens of the segment at a border; more than fit if its end is not in sight."""
        stream = self._stream
        if index + 1 < len(stream.borders):
            end = stream.borders[index + 1].start
        elif stream.exhausted:
            end = stream.end
        else:
            return self._ahead
        return stream.index(end) - stream.index(stream.borders[index].start)
