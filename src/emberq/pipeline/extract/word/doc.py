"""Word's old binary format: headers and footers, the text with headings and tables, then notes and comments.

The text lies in pieces, the properties of paragraphs and characters in pages of their own; see [MS-DOC].
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import BinaryIO, Final, NamedTuple

from emberq.errors import CorruptFile, EncryptedFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.packed.ole import CompoundFile
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.word.doc_properties import Layout, Properties
from emberq.pipeline.extract.word.flow import Flow

#: The first number of the stream, and the least version of the format of Word 97.
_MARK: Final = 0xA5EC
_WORD_97: Final = 0xC1

#: Flags: protected by a password, and which of two streams has the tables.
_IS_ENCRYPTED: Final = 0x0100
_TABLE_STREAM: Final = 0x0200

#: Places in the header: flags, the lengths of the parts of the text, and the pieces.
_FLAGS: Final = 0x0A
_LENGTHS: Final = struct.Struct("<76x3I4x4I")
_PIECES: Final = 0x01A2
#: In versions before Word 97: first byte and length of the text.
_OLD_START: Final = 0x18
_OLD_LENGTH: Final = 0x34

#: The bit of a piece whose characters have one byte each.
_ONE_BYTE: Final = 0x40000000

#: Characters that are no text: ends of cells, paragraphs and sections, fields, pictures and references.
_SPECIAL: Final = re.compile("[\x01\x02\x05\x07\x08\x0b-\x0e\x13-\x15\x1e\x1f]")
_TEXTS: Final = {"\x0b": "\n", "\x1e": "\u2011"}


class _Piece(NamedTuple):
    """A piece of the text: its first character, and where and how its bytes lie in the stream."""

    first: int
    at: int
    width: int


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a Word document; it has no page numbers, because pages exist only once a program lays it out.

    Raises:
        CorruptFile: If it is damaged.
        EncryptedFile: If it is protected by a password.
    """
    compound = CompoundFile(stream, build.meter)
    data = compound.read("WordDocument")
    try:
        mark, version = struct.unpack_from("<HH", data)
        (flags,) = struct.unpack_from("<H", data, _FLAGS)
        if mark != _MARK and version >= _WORD_97:
            raise CorruptFile("The Word document is damaged: its header makes no sense.")
        if flags & _IS_ENCRYPTED:
            raise EncryptedFile("The Word document is protected by a password.")
        if version < _WORD_97:
            _write_old(data, build)
            return
        tables = compound.read("1Table" if flags & _TABLE_STREAM else "0Table")
        _Document(data, tables, build).write()
    except struct.error as exc:
        raise CorruptFile("The Word document is cut short.") from exc


def _write_old(data: bytes, build: DocumentBuilder) -> None:
    """Write the text of a version before Word 97, which has one byte per character."""
    (start,) = struct.unpack_from("<I", data, _OLD_START)
    (length,) = struct.unpack_from("<I", data, _OLD_LENGTH)
    flow = Flow()
    _fill(flow, decode(data[start : start + length]), None)
    flow.write(build)


class _Document:
    def __init__(self, data: bytes, tables: bytes, build: DocumentBuilder) -> None:
        self._data = data
        self._build = build
        self._properties = Properties(data, tables)
        self._pieces, total = _pieces(data, tables)
        build.meter.expect_text(total)
        self._firsts = [piece.first for piece in self._pieces]
        self._text = "".join(self._decoded(total))
        self._pictures = 0

    def write(self) -> None:
        body, notes, headers, comments, endnotes, boxes, header_boxes = self._parts()
        seen: set[str] = set()
        for part in (headers, header_boxes):
            self._flow(part).write_new(self._build, seen)
        for part in (body, boxes, notes, endnotes):
            self._flow(part).write(self._build)
        for line in self._flow(comments).plain().split("\n"):
            if line.strip():
                self._build.paragraph(f"Comment: {squeeze(line)}")
        if self._pictures:
            self._build.warn(WarningCode.IMAGES_SKIPPED, count=self._pictures)

    def _parts(self) -> Iterator[range]:
        """Yield the parts of the text: the body, notes, headers, comments, endnotes, boxes."""
        start = 0
        for length in _LENGTHS.unpack_from(self._data):
            end = min(start + length, len(self._text))
            yield range(start, end)
            start = end

    def _flow(self, part: range) -> Flow:
        flow = Flow()
        text = self._text[part.start : part.stop]
        self._pictures += _fill(flow, text, lambda index: self._layout(part.start + index))
        return flow

    def _layout(self, character: int) -> Layout:
        """Return the layout of the paragraph whose end is a character."""
        piece = self._pieces[max(bisect_right(self._firsts, character) - 1, 0)]
        return self._properties.layout(piece.at + (character - piece.first) * piece.width)

    def _decoded(self, total: int) -> Iterator[str]:
        """Yield the text of the pieces; what is hidden or deleted becomes NUL, which keeps the places."""
        for number, piece in enumerate(self._pieces):
            end = self._firsts[number + 1] if number + 1 < len(self._firsts) else total
            length = end - piece.first
            data = self._data[piece.at : piece.at + length * piece.width]
            text = data.decode("cp1252" if piece.width == 1 else "utf-16-le", "replace")
            text = text[:length].ljust(length, "\0")
            at = 0
            for start, stop in self._properties.unseen(piece.at, piece.at + length * piece.width):
                first, last = (start - piece.at) // piece.width, (stop - piece.at) // piece.width
                yield text[at:first] + "\0" * (last - max(first, at))
                at = max(last, at)
            yield text[at:]


def _pieces(data: bytes, tables: bytes) -> tuple[list[_Piece], int]:
    """Return the pieces, and the number of characters of all."""
    at, _size = struct.unpack_from("<II", data, _PIECES)
    # Properties that several pieces share come first.
    while tables[at : at + 1] == b"\x01":
        (length,) = struct.unpack_from("<H", tables, at + 1)
        at += 3 + length
    kind, size = struct.unpack_from("<BI", tables, at)
    count = (size - 4) // 12
    if kind != 2 or size > len(tables) or count < 1:  # noqa: PLR2004 - the kind of the table of pieces
        raise CorruptFile("The Word document is damaged: its pieces cannot be found.")
    at += 5
    firsts = struct.unpack_from(f"<{count + 1}I", tables, at)
    if any(first >= after for first, after in pairwise(firsts)):
        raise CorruptFile("The Word document is damaged: its pieces are not in order.")
    at += 4 * (count + 1)
    pieces = []
    for number, first in enumerate(firsts[:-1]):
        (place,) = struct.unpack_from("<I", tables, at + 8 * number + 2)
        is_short = bool(place & _ONE_BYTE)
        place &= _ONE_BYTE - 1
        pieces.append(_Piece(first, place // 2 if is_short else place, 1 if is_short else 2))
    return pieces, firsts[-1]


def _fill(flow: Flow, text: str, layout_at: Callable[[int], Layout] | None) -> int:
    """Put text into a flow; return how many pictures it has.

    Args:
        flow: Takes the text.
        text: The characters.
        layout_at: Returns the layout of the paragraph that ends at an index; nothing if it is not known.
    """
    #: For each open field, whether its instruction is being read, which is not shown.
    fields: list[bool] = []
    at = pictures = instructions = 0
    for found in _SPECIAL.finditer(text):
        is_shown = not instructions
        if is_shown:
            flow.add(text[at : found.start()])
        at = found.end()
        match found[0]:
            case "\x13":
                fields.append(True)
                instructions += 1
            case "\x14" if fields:
                instructions -= fields[-1]
                fields[-1] = False
            case "\x15" if fields:
                instructions -= fields.pop()
            case "\r" | "\x07" | "\x0c" | "\x0e" if is_shown:
                layout = layout_at(found.start()) if layout_at else Layout(0, int(found[0] == "\x07"))
                _end(flow, layout, is_cell=found[0] == "\x07")
            case "\x01":
                pictures += is_shown
            case sign if sign in _TEXTS and is_shown:
                flow.add(_TEXTS[sign])
    flow.add(text[at:])
    return pictures


def _end(flow: Flow, layout: Layout, *, is_cell: bool) -> None:
    if layout.ends_row:
        flow.end_row(depth=max(layout.depth, 1))
    elif is_cell or layout.ends_inner_cell:
        flow.end_cell(layout.level, depth=max(layout.depth, 1))
    else:
        flow.end_paragraph(layout.level, depth=layout.depth)
