"""Outlook's messages (MSG): a compound file with a stream for each property; [MS-OXMSG]."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.mail.mapi import (
    BINARY,
    DATA,
    OBJECT,
    TIME,
    WANTED,
    Attachment,
    Item,
    ItemWriter,
    Properties,
    named,
)
from emberq.pipeline.extract.packed.ole import CompoundFile

_PROPERTIES: Final = "__properties_version1.0"
_STREAM: Final = re.compile(r"__substg1\.0_([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})")
_RECIPIENT: Final = "__recip_version1.0_"
_ATTACHMENT: Final = "__attach_version1.0_"
_NAMES: Final = "__nameid_version1.0/__substg1.0_00030102"

#: A property of a fixed length: type, identifier, flags, value.
_ENTRY: Final = struct.Struct("<HH4x8s")
#: The bytes before the properties of a message, of a message in it, and of a recipient or attachment.
_MESSAGE_HEADER: Final = 32
_INNER_HEADER: Final = 24
_PART_HEADER: Final = 8

#: The types of a fixed length that are read: numbers, truth values, times.
_FIXED: Final = frozenset((0x0002, 0x0003, 0x000B, TIME))

#: The name of a property: its number or place, and its kind and index.
_NAME: Final = struct.Struct("<IHH")
_IS_TEXT: Final = 1
_FIRST_NAMED: Final = 0x8000

#: Most recipients and attachments that are read; exported lists have some thousands.
_MAX_PARTS: Final = 10_000


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a message; its first page is its text, and each attachment is a page.

    Returns:
        The number of pages.

    Raises:
        CorruptFile: If the directory of the file cannot be read.
    """
    item = _Reader(CompoundFile(stream, build.meter)).item("", _MESSAGE_HEADER)
    pages = 1 + len(item.attachments)
    build.page = 1
    ItemWriter(build).write(item)
    progress(pages, pages)
    return pages


class _Reader:
    """Reads items from the storages of a compound file."""

    def __init__(self, file: CompoundFile) -> None:
        self._file = file
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(file.paths):
            folder, _, name = path.rpartition("/")
            self._names[folder].append(name)
        self._named = {
            _FIRST_NAMED + index: named(number)
            for number, kind, index in _NAME.iter_unpack(_whole(file.read(_NAMES), _NAME.size))
            if not kind & _IS_TEXT
        }

    def item(self, folder: str, header: int) -> Item:
        """Return the item in a storage."""
        properties = self._properties(folder, header)
        item = Item(properties)
        for name in self._names[folder][:_MAX_PARTS]:
            path = f"{folder}/{name}".removeprefix("/")
            if name.startswith(_RECIPIENT):
                item.recipients.append(self._properties(path, _PART_HEADER, properties.charset))
            elif name.startswith(_ATTACHMENT):
                item.attachments.append(self._attachment(path, properties.charset))
        return item

    def _attachment(self, path: str, charset: str) -> Attachment:
        properties = self._properties(path, _PART_HEADER, charset)
        inner = f"{path}/__substg1.0_{DATA:04X}{OBJECT:04X}"
        if _PROPERTIES in self._names.get(inner, ()):
            return Attachment(properties, bytes, partial(self.item, inner, _INNER_HEADER))
        return Attachment(properties, partial(self._file.read, f"{path}/__substg1.0_{DATA:04X}{BINARY:04X}"))

    def _properties(self, folder: str, header: int, charset: str = "") -> Properties:
        prefix = f"{folder}/" if folder else ""
        values: dict[int, tuple[int, bytes]] = {}
        fixed = self._file.read(prefix + _PROPERTIES)[header:]
        for kind, identity, value in _ENTRY.iter_unpack(_whole(fixed, _ENTRY.size)):
            if kind in _FIXED:
                values[self._key(identity)] = (kind, value)
        for name in self._names[folder]:
            found = _STREAM.fullmatch(name)
            if found and (key := self._key(int(found[1], 16))) in WANTED:
                values[key] = (int(found[2], 16), self._file.read(prefix + name))
        return Properties(values, charset)

    def _key(self, identity: int) -> int:
        return self._named.get(identity, identity)


def _whole(data: bytes, size: int) -> bytes:
    """Return the data without an incomplete record at its end."""
    return data[: len(data) // size * size]
