"""The small subset of Markdown in which the sources of the sample documents are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

__all__ = ["Block", "Kind", "parse", "sections"]


class Kind(StrEnum):
    """What a block is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    BULLETS = "bullets"
    TABLE = "table"
    NOTE = "note"
    PAGE_BREAK = "page break"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a source.

    Attributes:
        kind: What it is.
        text: The words of a heading, paragraph or note; empty for the rest.
        level: 1 to 3 for a heading, 0 for everything else.
        rows: The cells of a table, header first, or one cell for each bullet.
    """

    kind: Kind
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()


def _kind(line: str) -> Kind | None:
    if not line.strip():
        return None
    if line == "---":
        return Kind.PAGE_BREAK
    starts = {"#": Kind.HEADING, "- ": Kind.BULLETS, "|": Kind.TABLE, "> ": Kind.NOTE}
    return next((kind for start, kind in starts.items() if line.startswith(start)), Kind.PARAGRAPH)


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def _block(kind: Kind, lines: list[str]) -> Block:
    match kind:
        case Kind.HEADING:
            marks, _, text = lines[0].partition(" ")
            return Block(kind, text, level=len(marks))
        case Kind.BULLETS:
            return Block(kind, rows=tuple((line.removeprefix("- "),) for line in lines))
        case Kind.TABLE:
            return Block(kind, rows=tuple(_cells(line) for line in lines if not line.startswith("|---")))
        case Kind.NOTE:
            return Block(kind, " ".join(line.removeprefix("> ") for line in lines))
        case _:
            return Block(kind, " ".join(lines))


def parse(source: str) -> Iterator[Block]:
    """Yield the blocks of a source; neighbouring lines of one kind are one block."""
    for kind, lines in groupby(source.splitlines(), key=_kind):
        if kind is not None:
            yield _block(kind, list(lines))


def sections(blocks: Iterable[Block], *, level: int) -> Iterator[tuple[str, list[Block]]]:
    """Yield each heading of at most `level` with the blocks that follow it up to the next one."""
    title, body = "", list[Block]()
    for block in blocks:
        if block.kind is not Kind.HEADING or block.level > level:
            body.append(block)
            continue
        if title:
            yield title, body
        title, body = block.text, []
    if title:
        yield title, body
