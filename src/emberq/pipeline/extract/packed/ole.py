"""Compound files, the container of old Office programs and of Outlook's messages; see [MS-CFB]."""

from __future__ import annotations

import os
import struct
from array import array
from typing import BinaryIO, Final, NamedTuple

from emberq.errors import CorruptFile
from emberq.pipeline.extract.limits import Meter

#: The first bytes of a compound file.
OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

#: The header: sector shift; number of sectors of the allocation table; first sector of the directory; largest
#: size of a stream in short sectors; first sector of their table; first sector of the list of sectors of the
#: allocation table, and the first 109 of that list.
_HEADER: Final = struct.Struct("<30xH12xII4xII4xI4x109I")
#: A directory entry: name, length of the name with its final zero, kind, left and right sibling, first child,
#: first sector, size.
_ENTRY: Final = struct.Struct("<64sHBx3I36xIQ")
_STORAGE: Final = 1
_STREAM: Final = 2
#: Sector numbers from this one on mean "none".
_END: Final = 0xFFFFFFFA
#: Most directory entries that are read; a message with a thousand recipients has twenty thousand.
_MAX_ENTRIES: Final = 100_000
#: Most storages inside each other; messages inside messages have a few.
_MAX_DEPTH: Final = 20
#: The sector shifts of the format: 512 and 4,096 bytes.
_SHIFTS: Final = (9, 12)
_SMALL: Final = 512
#: Bytes of a short sector.
_SHORT: Final = 64


class _Entry(NamedTuple):
    name: str
    kind: int
    left: int
    right: int
    child: int
    sector: int
    size: int


class CompoundFile:
    """An open compound file: streams with paths such as `Storage/Stream`."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        """Read the allocation table and the directory.

        Args:
            stream: The file, seekable.
            meter: Counts the bytes of the streams that are read.

        Raises:
            CorruptFile: If they cannot be read.
        """
        self._stream = stream
        self._meter = meter
        self._file_size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise CorruptFile("The compound file is cut short.")
        shift, _count, directory, self._cutoff, shorts, further, *table = _HEADER.unpack(header)
        if shift not in _SHIFTS:
            raise CorruptFile("The compound file is damaged: its header makes no sense.")
        self._size = 1 << shift
        self._table = self._allocation_table(table, further)
        entries = self._entries(directory)
        self._short_table = _numbers(self._chain(shorts)) if shorts < _END else array("I")
        self._short_data: bytes | None = None
        self._root = entries[0]
        self._found: dict[str, _Entry] = {}
        self._walk(entries, entries[0].child, "", 1, set())

    @property
    def paths(self) -> frozenset[str]:
        """The paths of its streams and storages."""
        return frozenset(self._found)

    def read(self, path: str) -> bytes:
        """Return the bytes of a stream; none if there is no such stream.

        Raises:
            ArchiveBomb: If the streams that were read are more than the meter allows.
        """
        entry = self._found.get(path)
        if entry is None or entry.kind != _STREAM:
            return b""
        # Files with sectors of 512 bytes have only the low half of a size; the rest may be anything.
        size = min(entry.size & 0xFFFFFFFF if self._size == _SMALL else entry.size, self._file_size)
        data = (
            self._read_short(entry.sector, size) if size < self._cutoff else self._chain(entry.sector, size)
        )
        self._meter.add_unpacked(len(data))
        return data

    def _sector(self, number: int) -> bytes:
        self._stream.seek((number + 1) * self._size)
        return self._stream.read(self._size)

    def _allocation_table(self, first: list[int], further: int) -> array[int]:
        """Return for each sector the next one of its stream."""
        sectors = [number for number in first if number < _END]
        visited: set[int] = set()
        while further < _END and further not in visited:
            visited.add(further)
            *numbers, further = _numbers(self._sector(further)) or (_END,)
            sectors += [number for number in numbers if number < _END]
        table = array("I")
        # No more than the file has room for, however often its list names a sector.
        for number in sectors[: self._file_size // self._size * 4 // self._size + 1]:
            table.extend(_numbers(self._sector(number)))
        return table

    def _chain(self, sector: int, size: int | None = None) -> bytes:
        """Return the bytes of the sectors that follow each other."""
        left = self._file_size if size is None else size
        pieces: list[bytes] = []
        while sector < _END and left > 0:
            piece = self._sector(sector)[:left]
            if not piece:
                break
            pieces.append(piece)
            # The bytes of a cycle end with the size of the file.
            left -= self._size
            sector = self._table[sector] if sector < len(self._table) else _END
        return b"".join(pieces)

    def _read_short(self, sector: int, size: int) -> bytes:
        if self._short_data is None:
            self._short_data = self._chain(self._root.sector, min(self._root.size, self._file_size))
        pieces: list[bytes] = []
        left = size
        while sector < _END and left > 0:
            pieces.append(self._short_data[sector * _SHORT : sector * _SHORT + min(left, _SHORT)])
            left -= _SHORT
            sector = self._short_table[sector] if sector < len(self._short_table) else _END
        return b"".join(pieces)

    def _entries(self, directory: int) -> list[_Entry]:
        data = self._chain(directory, _MAX_ENTRIES * _ENTRY.size)
        entries: list[_Entry] = []
        for name, length, *rest in _ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]):
            entries.append(_Entry(name[: max(length - 2, 0)].decode("utf-16-le", "replace"), *rest))
        if not entries:
            raise CorruptFile("The compound file is damaged: its directory cannot be read.")
        return entries

    def _walk(self, entries: list[_Entry], first: int, folder: str, depth: int, visited: set[int]) -> None:
        """Find the entries of a storage, which form a binary tree, and those of the storages in it."""
        pending = [first]
        while pending:
            number = pending.pop()
            if number in visited or number >= len(entries):
                continue
            visited.add(number)
            entry = entries[number]
            self._found.setdefault(folder + entry.name, entry)
            pending += [entry.right, entry.left]
            if entry.kind == _STORAGE and depth < _MAX_DEPTH:
                self._walk(entries, entry.child, f"{folder}{entry.name}/", depth + 1, visited)


def _numbers(data: bytes) -> array[int]:
    """Return little-endian numbers of four bytes."""
    return array("I", struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4]))
