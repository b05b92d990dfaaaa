"""The names in compound files, the format of old Office programs; see [MS-CFB]."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

#: The first bytes of a compound file.
OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

#: The header: sector shift, first directory sector, and the first 109 sectors of the allocation table.
_HEADER: Final = struct.Struct("<30xH16xI24x109I")
#: A directory entry: name, length of the name with its final zero, left and right sibling, first child.
_ENTRY: Final = struct.Struct("<64sH2x3I48x")
#: Sector numbers from this one on mean "none".
_END: Final = 0xFFFFFFFA
#: Most directory entries that are read; documents have a few dozen.
_MAX_ENTRIES: Final = 10_000
#: The sector shifts of the format: 512 and 4,096 bytes.
_SHIFTS: Final = (9, 12)


def root_entries(stream: BinaryIO) -> frozenset[str]:
    """Return the top-level names of a compound file; an empty set if it cannot be read."""
    stream.seek(0)
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return frozenset()
    shift, directory, *table = _HEADER.unpack(header)
    if shift not in _SHIFTS:
        return frozenset()
    entries = _directory(stream, 1 << shift, directory, table)
    names: set[str] = set()
    # The children of the root form a binary tree; embedded objects have their own trees.
    pending = [entries[0][4]] if entries else []
    visited: set[int] = set()
    while pending:
        number = pending.pop()
        if number in visited or number >= len(entries):
            continue
        visited.add(number)
        name, size, left, right, _ = entries[number]
        names.add(name[: max(size - 2, 0)].decode("utf-16-le", "replace"))
        pending += [left, right]
    return frozenset(names)


def _directory(
    stream: BinaryIO, sector_size: int, sector: int, table: list[int]
) -> list[tuple[bytes, int, int, int, int]]:
    """Return the directory's entries: name, its length, left, right, child."""
    entries: list[tuple[bytes, int, int, int, int]] = []
    per_sector = sector_size // 4
    while sector < _END and len(entries) < _MAX_ENTRIES:
        content = _sector(stream, sector_size, sector)
        whole = len(content) // _ENTRY.size * _ENTRY.size
        if not whole:
            break
        entries += _ENTRY.iter_unpack(content[:whole])
        block, index = divmod(sector, per_sector)
        if block >= len(table) or table[block] >= _END:
            break
        links = _sector(stream, sector_size, table[block])
        if len(links) < sector_size:
            break
        sector = struct.unpack_from("<I", links, index * 4)[0]
    return entries


def _sector(stream: BinaryIO, size: int, number: int) -> bytes:
    stream.seek((number + 1) * size)
    return stream.read(size)
