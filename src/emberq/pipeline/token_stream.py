"""The positions of a long text's tokens, read one window at a time."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import attrgetter, sub
from typing import TYPE_CHECKING, NamedTuple

from emberq.pipeline.document import Segment, SegmentKind

if TYPE_CHECKING:
    from tokenizers import Tokenizer


#: Characters tokenized in one call. Of 300, 3,000 and 60,000, the middle was fastest (2.9 MB/s). Only the
#: offsets of about one window are in memory, for a document of any length.
_WINDOW_CHARS = 4096
#: Most characters that count as one token. WordPiece makes one unknown token of a long word of any length,
#: and skips characters that it does not know; without this limit a chunk could grow without end. Words of
#: real languages are shorter.
LONGEST_TOKEN = 64
#: The characters at which every tokenizer of the BERT family ends a word.
_BLANKS = frozenset(" \n\t\r")
_border_start = attrgetter("start")
_VISIBLE = re.compile(r"\S")


class Border(NamedTuple):
    """The beginning of a segment.

    Attributes:
        start: Index of its first visible character.
        segment: The segment.
        after_heading: Whether the segment before it is a heading.
        turns_page: Whether it is on another page than the segment before it.
        continues: Whether it has further rows of the table before it.
    """

    start: int
    segment: Segment
    after_heading: bool
    turns_page: bool
    continues: bool


class TokenStream:
    """The tokens of neighbouring segments, in a window that moves forward through the text.

    Attributes:
        starts: Index in the text of the start of each token, ascending. Characters that are in no token
            belong to the token before them.
        borders: The segments that begin in the window or reach into it.
        end: Index after the last character read so far.
        exhausted: Whether all segments have been read.
    """

    def __init__(self, text: str, segments: Sequence[Segment], tokenizer: Tokenizer) -> None:
        self.starts: list[int] = []
        self.borders: list[Border] = []
        self.end = segments[0].start
        self.exhausted = False
        self._text = text
        self._tokenizer = tokenizer
        self._additive = is_additive(tokenizer)
        #: Positions across which the tokens of a text are not the sum of the tokens of its parts.
        self._non_additive: list[int] = []
        self._windows = self._read(segments)

    def fill(self, position: int, tokens: int) -> None:
        """Drop what is before `position`, and read until `tokens` tokens follow it or the text ends."""
        if self.exhausted or len(self.starts) - self.index(position) >= tokens:
            return
        del self.starts[: max(0, self.index(position) - 1)]
        del self._non_additive[: bisect_left(self._non_additive, position)]
        del self.borders[: max(0, self.border_at(position))]
        while len(self.starts) - self.index(position) < tokens and not self.exhausted:
            self._read_window()

    def index(self, position: int) -> int:
        """Return the index of the first token that begins at or after `position`."""
        return bisect_left(self.starts, position)

    def border_at(self, position: int) -> int:
        """Return the index of the last border at or before `position`."""
        return bisect_right(self.borders, position, key=_border_start) - 1

    def visible(self, position: int) -> int | None:
        """Return the index of the first visible character at or after `position`; None if there is none."""
        while True:
            match = _VISIBLE.search(self._text, position, self.end)
            if match is not None or self.exhausted:
                return match.start() if match else None
            position = max(position, self.end)
            self._read_window()

    def measure(self, start: int, end: int, limit: int) -> tuple[int, int]:
        """Count the tokens of a part of the text, tokenized on its own.

        Args:
            start: Index of its first character.
            end: Index after its last character.
            limit: Most tokens allowed.

        Returns:
            The number of tokens, and the index after the last character within the limit.
        """
        counted = self.index(end) - self.index(start)
        if counted <= limit and self._stands_alone(start, end):
            return counted, end
        offsets = self._tokenizer.encode(self._text[start:end], add_special_tokens=False).offsets
        return len(offsets), end if len(offsets) <= limit else start + offsets[limit][0]

    def _read_window(self) -> None:
        self.exhausted = next(self._windows, None) is None

    def _stands_alone(self, start: int, end: int) -> bool:
        text = self._text
        following = bisect_left(self._non_additive, start)
        return (
            self._additive
            and (start == 0 or text[start - 1] in _BLANKS)
            and (end == len(text) or text[end] in _BLANKS)
            and (following == len(self._non_additive) or self._non_additive[following] >= end)
        )

    def _read(self, segments: Sequence[Segment]) -> Iterator[bool]:
        before: Segment | None = None
        for segment in segments:
            match = _VISIBLE.search(self._text, segment.start, segment.end)
            if match is None:
                continue
            start = match.start()
            after_heading = before is not None and before.kind is SegmentKind.HEADING
            turns_page = before is not None and before.page != segment.page
            continues = before is not None and self._continues(before, segment)
            self.borders.append(Border(start, segment, after_heading, turns_page, continues))
            before = segment
            while start < segment.end:
                stop = self._window_end(start, segment.end)
                self._add(start, stop)
                start = stop
                yield True

    def _continues(self, before: Segment, segment: Segment) -> bool:
        """Return whether two segments are rows of one table."""
        kinds = before.kind is SegmentKind.TABLE is segment.kind
        return kinds and before.header == segment.header and self._text[before.end : segment.start] == "\n"

    def _window_end(self, start: int, end: int) -> int:
        if end - start <= _WINDOW_CHARS:
            return end
        stop = start + _WINDOW_CHARS
        blank = max(self._text.rfind(char, start + 1, stop) for char in _BLANKS)
        return blank if blank > 0 else stop

    def _add(self, start: int, stop: int) -> None:
        text = self._text
        self.end = stop
        match = _VISIBLE.search(text, start, stop)
        if match is None:
            blanks = range(start, stop, LONGEST_TOKEN)
            self.starts += blanks
            self._non_additive += blanks
            return
        first = match.start()
        encoding = self._tokenizer.encode(text[start:stop], add_special_tokens=False)
        starts = [start + begin for begin, _ in encoding.offsets]
        if not self._additive:
            # Such tokenizers often make the space before a word part of its token.
            starts = sorted(max(first, at + (text[at] == " ")) for at in starts)
        if not starts or starts[0] > first:
            # The tokenizer skipped visible characters before the first token.
            self._non_additive.append(first)
            starts.insert(0, first)
        elif start == first and start > 0 and text[start - 1] not in _BLANKS:
            self._non_additive.append(start)
        starts[0] = first
        if max(map(sub, [*starts[1:], stop], starts)) > LONGEST_TOKEN:
            starts = self._split_long_tokens(starts, stop)
        self.starts += starts

    def _split_long_tokens(self, starts: list[int], stop: int) -> list[int]:
        refined: list[int] = []
        for here, following in pairwise([*starts, stop]):
            extra = range(here + LONGEST_TOKEN, following, LONGEST_TOKEN)
            refined += (here, *extra)
            self._non_additive += extra
        return refined


def is_additive(tokenizer: Tokenizer) -> bool:
    """Return whether two texts joined by white space have the tokens of the first, then those of the second.

    This is known for BERT's own rules. With other tokenizers each chunk is tokenized a second time.
    """
    from tokenizers import normalizers, pre_tokenizers

    return isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer) and (
        tokenizer.normalizer is None or isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
    )
