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
from emberq.pipeline.token_stream import Border, TokenStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["HEADING_SEPARATOR", "embedding_text", "iter_chunks", "split"]

#: Between the headings of a chunk's path.
HEADING_SEPARATOR = " › "
#: Characters of one heading kept in the path; longer ones are mostly paragraphs in a heading's style.
_HEADING_CHARS = 120
#: A chunk may end early, for a better place, when it is at least this part full: one in four.
_LEAST_PART = 4
#: The end of a sentence: its mark and closing quotes, before a blank and no lower-case letter ("e.g. a
#: case"); the full-width marks, which need no blank; an empty line.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]»]*(?=\s+[^\sa-z])|[。！？][”’」』）]*|\n[^\S\n]*\n")  # noqa: RUF001


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
        raise InvalidRequest(f"A chunk of {chunk_size} tokens with an overlap of {chunk_overlap} cannot be made.")
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
        if opening.startswith(title):
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
        is_heading = segment.kind is SegmentKind.HEADING
        if section and (
            (is_heading and not only_headings)
            or document.text[section[-1].end : segment.start].strip()
        ):
            yield name, section
            section, only_headings = [], True
        if is_heading:
            title = " ".join(document.text[segment.start : segment.end].split())[:_HEADING_CHARS].rstrip()
            path = [step for step in path if step[0] < segment.level] + [(segment.level, title)]
            name = HEADING_SEPARATOR.join(title for _, title in path if title) or None
        section.append(segment)
        only_headings &= is_heading
    if section:
        yield name, section


class _Cutter:
    """Cuts one section into pieces.

    `start` is where a piece begins, `floor` the first character that no earlier piece has: what lies
    between them is overlap. A piece must end behind the floor.
    """

    def __init__(self, text: str, stream: TokenStream, size: int, overlap: int) -> None:
        self._text = text
        self._stream = stream
        self._size = size
        self._overlap = overlap

    def pieces(self, first: int) -> Iterator[_Piece]:
        start = first
        floor: int | None = first
        while True:
            # One chunk, and as much again to see whether what follows it fits into the next.
            self._stream.fill(start, 2 * self._size + 1)
            floor = self._stream.visible(floor)
            if floor is None:
                return
            start = min(start, floor) if start != first else floor
            piece, cut = self._piece(start, floor)
            yield piece
            floor = cut
            following = self._stream.visible(cut)
            start = cut if following is None else self._overlap_start(piece.start, following)
