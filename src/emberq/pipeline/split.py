"""Splitting: a document is cut into chunks along its structure, none longer than the model's limit.

The rules for where a chunk ends, strongest first:

1. A heading begins a new chunk, and is in the same chunk as the text after it.
2. The end of a page ends a chunk, unless the chunk would be less than a quarter full.
3. A paragraph, item of a list or table that fits is not cut; small neighbours share a chunk.
4. A table that does not fit is cut after a row, code after a line. A paragraph is cut after a sentence;
   only a sentence that does not fit is cut, after a line, otherwise after a clause, a word or a token.
5. A chunk of a few tokens joins its neighbour where it can, also across a heading or a page's end, but a
   heading is never last.

The later chunks of a table carry its header, the row that names the columns, beside their text; it counts
against their size.

A chunk overlaps with the last sentences or words of the chunk before it in the same section, but not
across the end of a page: the overlap would be cited with the wrong page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from emberq.errors import FileTooLarge, InvalidRequest
from emberq.pipeline.cutter import Cutter, Piece, count_tokens
from emberq.pipeline.document import Chunk, Document, Segment, SegmentKind
from emberq.pipeline.token_stream import LONGEST_TOKEN, TokenStream, is_additive

if TYPE_CHECKING:
    from tokenizers import Tokenizer


#: Separates the headings of a chunk's path.
HEADING_SEPARATOR = " › "  # noqa: RUF001 - typography
#: Most characters of one heading in the path; longer headings are mostly paragraphs in a heading's style.
_HEADING_CHARS = 120
#: A chunk of fewer tokens than this, and than the part of the size, joins its neighbour.
_FEW_TOKENS = 10
_FEW_PART = 8
#: White space that every tokenizer takes for a border of words.
_BREAK = re.compile("[ \t\n]")
_VISIBLE = re.compile(r"\S")


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
        chunk_size: Most tokens of a chunk with its table's header, special tokens not counted. Only a single
            character that has more tokens exceeds it.
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
    pieces = _pieces(document, tokenizer, chunk_size, min(chunk_overlap, chunk_size // 2))
    for piece in _join_small(document.text, pieces, tokenizer, chunk_size):
        if check is not None:
            check()
        if len(chunks) == max_chunks:
            raise FileTooLarge(
                f"The text makes more than {max_chunks:,} chunks, the most for its length.",
                hint="Split the file, or raise the setting rag_chunk_size or file_budget.",
            )
        text = document.text[piece.start : piece.end]
        chunks.append(
            Chunk(
                *(len(chunks), text, piece.start, piece.end, piece.tokens),
                piece.page,
                piece.heading,
                piece.header,
            )
        )
    return chunks


def embedding_text(chunk: Chunk, tokenizer: Tokenizer, *, max_tokens: int) -> str:
    """Return the text that is embedded for a chunk: its headings, its table's header, and its own text.

    Each is on a line of its own. Headings that the text begins with are not repeated. The headings are left
    out if the text with them would exceed the model's limit, and then the header.

    Args:
        chunk: The chunk.
        tokenizer: The embedding model's tokenizer, which neither truncates nor pads.
        max_tokens: Most tokens of a text, special ones counted.
    """
    above = HEADING_SEPARATOR.join(_headings_above(chunk))
    if not above and not chunk.header:
        return chunk.text
    under_header = f"{chunk.header}\n{chunk.text}" if chunk.header else chunk.text
    for text in (f"{above}\n{under_header}" if above else under_header, under_header):
        if len(tokenizer.encode(text)) <= max_tokens:
            return text
    return chunk.text


def _headings_above(chunk: Chunk) -> Iterator[str]:
    """Yield the headings of a chunk's path, without those with which its text begins."""
    opening = " ".join(chunk.text[: 2 * _HEADING_CHARS].split())
    for title in (chunk.heading or "").split(HEADING_SEPARATOR):
        if not title or f"{opening} ".startswith(f"{title} "):
            return
        yield title


def _pieces(document: Document, tokenizer: Tokenizer, size: int, overlap: int) -> Iterator[Piece]:
    """Yield the pieces of all sections."""
    for heading, segments in _sections(document):
        stream = TokenStream(document.text, segments, tokenizer)
        cutter = Cutter(document.text, stream, tokenizer, size, overlap)
        for piece in cutter.pieces(segments[0].start):
            yield piece._replace(heading=heading)


def _join_small(text: str, pieces: Iterator[Piece], tokenizer: Tokenizer, size: int) -> Iterator[Piece]:
    """Yield the pieces; neighbours of which one has few tokens become one piece where it fits."""
    few = min(_FEW_TOKENS, size // _FEW_PART)
    held: Piece | None = None
    for piece in pieces:
        if held is not None and min(held.tokens, piece.tokens) < few:
            joined = _join(text, held, piece, tokenizer, size)
            if joined is not None:
                held = joined
                continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held


def _join(text: str, before: Piece, after: Piece, tokenizer: Tokenizer, size: int) -> Piece | None:
    """Return two pieces as one, with the page, headings and header of the longer one.

    Returns None if it would be too long, end with a heading, or contain words that are in no segment.
    """
    if after.ends_with_heading or _VISIBLE.search(text, before.end, after.start):
        return None
    if after.end - before.start > size * LONGEST_TOKEN:
        return None
    longer = max(before, after, key=lambda piece: piece.tokens)
    header = count_tokens(tokenizer, longer.header) if longer.header else 0
    if _BREAK.search(text, before.end, after.start) and is_additive(tokenizer):
        tokens = before.tokens + after.tokens
    else:
        tokens = count_tokens(tokenizer, text[before.start : after.end])
    if tokens + header > size:
        return None
    return longer._replace(start=before.start, end=after.end, tokens=tokens, ends_with_heading=False)


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
