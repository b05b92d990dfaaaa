"""Cuts the text of one section into pieces, none longer than its size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

from emberq.pipeline.document import SegmentKind
from emberq.pipeline.sentences import clause_ends, sentence_ends
from emberq.pipeline.token_stream import TokenStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer


#: Most characters of a table's header that chunks carry, and the part of a chunk that it may take: 3 stands
#: for a third. A longer header is cut.
_HEADER_CHARS: Final = 500
_HEADER_PART: Final = 3
#: A chunk may end early, at a better place, once this fraction of it is full: 4 stands for a quarter.
_LEAST_PART: Final = 4
#: The first characters of a fenced block of code.
_FENCES: Final = ("```", "~~~")
#: Characters before a place in which the end of the sentence before it is looked for.
_NEAR: Final = 16
_LINE_END: Final = re.compile(r"\n")
_BLANK: Final = re.compile(r"\s+")


class Piece(NamedTuple):
    """A range of the text that becomes a chunk; the fields are those of `Chunk`."""

    start: int
    end: int
    tokens: int
    page: int | None
    header: str | None
    heading: str | None
    #: Whether its last visible segment is a heading.
    ends_with_heading: bool


class Cutter:
    """Cuts one section into pieces.

    In all methods, `start` is the first character of a piece, and `floor` the first character that is in
    no earlier piece. The text between them is overlap, and a piece must end after the floor.
    """

    def __init__(self, text: str, stream: TokenStream, tokenizer: Tokenizer, size: int, overlap: int) -> None:
        self._text = text
        self._stream = stream
        self._header_of = cache(partial(_header, text, tokenizer, size // _HEADER_PART))
        self._size = size
        self._overlap = overlap
        #: Tokens to read from a piece's start: enough for the piece and the one after it.
        self._ahead = 2 * size + 1

    def pieces(self, first: int) -> Iterator[Piece]:
        """Yield the pieces of the section that begins at `first`."""
        self._stream.fill(first, self._ahead)
        start = floor = self._stream.visible(first)
        while start is not None and floor is not None:
            self._stream.fill(start, self._ahead)
            piece, cut = self._piece(start, floor)
            yield piece
            floor = self._stream.visible(cut)
            start = floor if floor is None else self._overlap_start(piece.start, floor)

    def _piece(self, start: int, floor: int) -> tuple[Piece, int]:
        """Return a piece and the index at which it was cut; it is shortened until it has the size."""
        header, size = self._header_at(start)
        reach = self._reach(start, size)
        while True:
            if reach <= floor and start < floor:
                start = floor
                header, size = self._header_at(start)
                reach = self._reach(start, size)
            reach = max(reach, floor + 1)
            cut = self._cut(start, floor, reach)
            end = start + len(self._text[start:cut].rstrip())
            tokens, allowed = self._stream.measure(start, end, size)
            if tokens <= size or (start == floor and end == floor + 1):
                stream = self._stream
                page = stream.borders[stream.border_at(start)].segment.page
                last = stream.borders[stream.border_at(end - 1)].segment
                ends_with_heading = last.kind is SegmentKind.HEADING
                return Piece(start, end, tokens, page, header, None, ends_with_heading), cut
            reach = min(allowed, end - 1)

    def _header_at(self, start: int) -> tuple[str | None, int]:
        """Return the header of the table in which a piece begins, and the tokens that are left for text."""
        header = self._stream.borders[self._stream.border_at(start)].segment.header
        if header is None or start < header[1]:
            return None, self._size
        text, tokens = self._header_of(header)
        return text, self._size - tokens

    def _reach(self, start: int, size: int) -> int:
        """Return the index at which a piece would end if only its size mattered."""
        beyond = self._stream.index(start) + size
        return self._stream.starts[beyond] if beyond < len(self._stream.starts) else self._stream.end

    def _cut(self, start: int, floor: int, reach: int) -> int:
        """Return the best index to end a piece: after the floor, and not after `reach`."""
        stream = self._stream
        enough = stream.index(start) + max(1, self._size // _LEAST_PART)
        least = stream.starts[min(enough, len(stream.starts) - 1)]
        inner = range(stream.border_at(floor) + 1, stream.border_at(reach) + 1)
        for index in inner:
            border = stream.borders[index]
            if border.turns_page and border.start >= least and not border.after_heading:
                return border.start
        if stream.exhausted and reach == stream.end:
            return reach
        for index in reversed(inner):
            border = stream.borders[index]
            if border.after_heading or border.continues:
                continue
            if border.start >= least or self._tokens_of_segment(index) <= self._size:
                return border.start
        return self._cut_inside(floor, least, reach)

    def _cut_inside(self, floor: int, least: int, reach: int) -> int:
        """Return the best index to cut a segment that does not fit."""
        text, stream = self._text, self._stream
        at = stream.border_at(reach - 1)
        segment = stream.borders[at].segment
        if segment.kind is SegmentKind.TABLE:
            while stream.borders[at].continues and at > 0:
                at -= 1
            row_end = text.rfind("\n", max(floor, stream.borders[at].start), reach)
            if row_end >= 0:
                return row_end + 1
        low = max(floor, stream.borders[at].start)
        enough = min(max(low, least), reach)
        if not text.startswith(_FENCES, segment.start):
            *_, last = (enough, *sentence_ends(text, enough, reach))
            if last > enough:
                return last
            *_, last = (low, *sentence_ends(text, low, enough))
            if last > low and self._sentence_tokens(last) <= self._size:
                return last
        line_end = text.rfind("\n", enough, reach)
        if line_end >= 0:
            return line_end + 1
        *_, last = (enough, *clause_ends(text, enough, reach))
        if last > enough:
            return last
        return next((at for at in range(reach, enough, -1) if text[at - 1].isspace()), reach)

    def _begins_sentence(self, previous: int, floor: int) -> bool:
        """Return whether a sentence ends right before the floor."""
        ends = sentence_ends(self._text, max(previous, floor - _NEAR), floor)
        return any(self._stream.visible(end) == floor for end in ends)

    def _sentence_tokens(self, start: int) -> int:
        """Return the tokens of the sentence that begins at an index; more than fit if it does not end."""
        stream = self._stream
        here = stream.index(start)
        beyond = here + self._size + 1
        limit = stream.starts[beyond] if beyond < len(stream.starts) else stream.end
        following = stream.border_at(start) + 1
        if following < len(stream.borders):
            limit = min(limit, stream.borders[following].start)
        end = next(sentence_ends(self._text, start, limit), limit)
        return stream.index(end) - here

    def _overlap_start(self, previous: int, floor: int) -> int:
        """Return the start of the next piece, which is after the start of the previous one."""
        stream, text = self._stream, self._text
        if not self._overlap:
            return floor
        token = stream.index(floor)
        here = stream.border_at(floor)
        between_segments = stream.borders[here].start == floor and not stream.borders[here].continues
        # A segment or sentence that fits into a chunk must not be cut to make room for the overlap.
        if between_segments:
            length = self._tokens_of_segment(here)
        elif self._begins_sentence(previous, floor):
            length = self._sentence_tokens(floor)
        else:
            length = 0
        room = min(self._overlap, self._size - length) if length <= self._size else self._overlap
        earliest = max(token - room, stream.index(previous + 1))
        if earliest >= token:
            return floor
        low = stream.starts[earliest]
        page_turns = (border.start for border in reversed(stream.borders[: here + 1]) if border.turns_page)
        low = max(low, next(page_turns, low))
        earlier = max(previous + 1, low - 2)
        if stream.borders[stream.border_at(floor - 1)].segment.kind is SegmentKind.TABLE:
            beginnings: list[Iterator[int]] = [
                (match.end() for match in _LINE_END.finditer(text, earlier, floor))
            ]
        else:
            beginnings = [sentence_ends(text, earlier, floor)]
            if not between_segments:
                beginnings.append(match.end() for match in _BLANK.finditer(text, earlier, floor))
        for ends in beginnings:
            for end in ends:
                at = stream.visible(end)
                if at is not None and low <= at < floor:
                    return at
        has_words = len(beginnings) == 1 or _BLANK.search(text, low, floor)
        return floor if has_words else low

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


def _header(
    text: str, tokenizer: Tokenizer, max_tokens: int, place: tuple[int, int]
) -> tuple[str | None, int]:
    """Return the header at a place of the text, cut to whole cells if it is long, and its tokens."""
    header = text[place[0] : min(place[1], place[0] + _HEADER_CHARS)]
    offsets = tokenizer.encode(header, add_special_tokens=False).offsets
    is_cut = len(header) < place[1] - place[0]
    if len(offsets) > max_tokens:
        header, is_cut = header[: offsets[max_tokens][0]], True
    if is_cut:
        header = header.rpartition("|")[0]
    header = header.strip()
    return header or None, count_tokens(tokenizer, header)


def count_tokens(tokenizer: Tokenizer, text: str) -> int:
    """Return the number of a text's tokens, without special ones."""
    return len(tokenizer.encode(text, add_special_tokens=False))
