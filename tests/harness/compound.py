"""Writes compound files, the container of old Office programs and of Outlook's messages, for tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

__all__ = ["make_compound"]

_FREE: Final = 0xFFFFFFFF
_END: Final = 0xFFFFFFFE
_TABLE: Final = 0xFFFFFFFD
_LIST: Final = 0xFFFFFFFC
_SECTOR: Final = 512
_SHORT: Final = 64
_CUTOFF: Final = 4096
_STORAGE: Final = 1
_STREAM: Final = 2
_ROOT: Final = 5
_IN_HEADER: Final = 109
_PER_SECTOR: Final = _SECTOR // 4


def make_compound(streams: Mapping[str, bytes]) -> bytes:
    """Write a compound file.

    Args:
        streams: The bytes of each stream, by its path such as `Storage/Stream`.
    """
    sectors = _Sectors()
    short_data = bytearray()
    short_table: list[int] = []
    placed: dict[str, tuple[int, int]] = {}
    for path, data in streams.items():
        if not data:
            placed[path] = (_END, 0)
        elif len(data) < _CUTOFF:
            start, count = len(short_table), -(-len(data) // _SHORT)
            short_table += [*range(start + 1, start + count), _END]
            short_data += data.ljust(count * _SHORT, b"\0")
            placed[path] = (start, len(data))
        else:
            placed[path] = (sectors.add(data), len(data))
    root = (sectors.add(bytes(short_data)), len(short_data))
    shorts = sectors.add(struct.pack(f"<{len(short_table)}I", *short_table), fill=b"\xff")
    directory = sectors.add(_directory(streams, placed, root))
    return sectors.finish(directory, shorts)


def _directory(
    streams: Mapping[str, bytes], placed: Mapping[str, tuple[int, int]], root: tuple[int, int]
) -> bytes:
    """Return the directory; the children of a storage form a chain instead of a balanced tree."""
    paths = [""]
    for path in streams:
        pieces = path.split("/")
        paths += ["/".join(pieces[:depth]) for depth in range(1, len(pieces) + 1)]
    paths = list(dict.fromkeys(paths))
    children: dict[str, list[int]] = {}
    for number, path in enumerate(paths[1:], 1):
        children.setdefault(path.rpartition("/")[0], []).append(number)
    entries = b""
    for number, path in enumerate(paths):
        siblings = children.get(path.rpartition("/")[0], []) if number else []
        after = siblings.index(number) + 1 if number in siblings else len(siblings)
        right = siblings[after] if after < len(siblings) else _FREE
        child = children.get(path, [_FREE])[0]
        kind = _ROOT if not number else _STREAM if path in placed else _STORAGE
        sector, size = root if not number else placed.get(path, (0, 0))
        name = ((path.rpartition("/")[2] or "Root Entry") + "\0").encode("utf-16-le")
        entries += struct.pack(
            "<64sHBBIII16xI8x8xIQ", name, len(name), kind, 1, _FREE, right, child, 0, sector, size
        )
    return entries


class _Sectors:
    def __init__(self) -> None:
        self._data = bytearray()
        self._table: list[int] = []

    def add(self, data: bytes, fill: bytes = b"\0") -> int:
        """Append data in sectors that follow each other; return the first one."""
        if not data:
            return _END
        start, count = len(self._table), -(-len(data) // _SECTOR)
        self._table += [*range(start + 1, start + count), _END]
        self._data += data.ljust(count * _SECTOR, fill)
        return start

    def finish(self, directory: int, shorts: int) -> bytes:
        """Append the allocation table, and the list of its sectors where the header has no room for it."""
        tables = lists = 0
        while tables * _PER_SECTOR < len(self._table) + tables + lists:
            tables += 1
            lists = max(0, -(-(tables - _IN_HEADER) // (_PER_SECTOR - 1)))
        first = len(self._table)
        numbers = list(range(first, first + tables))
        self._table += [_TABLE] * tables + [_LIST] * lists
        self._table += [_FREE] * (tables * _PER_SECTOR - len(self._table))
        self._data += struct.pack(f"<{len(self._table)}I", *self._table)
        more = numbers[_IN_HEADER:]
        for number in range(lists):
            part = more[number * (_PER_SECTOR - 1) : (number + 1) * (_PER_SECTOR - 1)]
            part += [_FREE] * (_PER_SECTOR - 1 - len(part))
            after = first + tables + number + 1 if number + 1 < lists else _END
            self._data += struct.pack(f"<{_PER_SECTOR}I", *part, after)
        in_header = numbers[:_IN_HEADER]
        header = struct.pack(
            "<8s16x5H6x9I109I",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            *(0x3E, 3, 0xFFFE, 9, 6),
            *(0, tables, directory, 0, _CUTOFF, shorts, 1, first + tables if lists else _END, lists),
            *(in_header + [_FREE] * (_IN_HEADER - len(in_header))),
        )
        return header + bytes(self._data)
