"""TNEF, the format of `winmail.dat`, in which Outlook sends text and attachments; [MS-OXTNEF]."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.mail import mapi
from emberq.pipeline.extract.mail.mapi import Attachment, Item, ItemWriter, Properties, charset_of, named

#: The first bytes, and the length of the header.
TNEF_MAGIC: Final = b"\x78\x9f\x3e\x22"
_HEADER: Final = 6

#: An attribute: level, identifier, length; after its data a checksum follows.
_ATTRIBUTE: Final = struct.Struct("<BHHI")
_CHECKSUM: Final = 2

_SUBJECT: Final = 0x8004
_BODY: Final = 0x800C
_CLASS: Final = 0x8008
_DATA: Final = 0x800F
_TITLE: Final = 0x8010
_NEW_ATTACHMENT: Final = 0x9002
_PROPERTIES: Final = 0x9003
_RECIPIENTS: Final = 0x9004
_ATTACHMENT: Final = 0x9005
_CODE_PAGE: Final = 0x9007

#: The old attributes that have a property of the same meaning.
_SAME: Final = {_SUBJECT: mapi.SUBJECT, _BODY: mapi.BODY, _CLASS: mapi.CLASS, _TITLE: mapi.SHORT_NAME}

#: The sizes of values by their type; other types have a length before them.
_SIZES: Final = {
    0x0001: 0,
    **dict.fromkeys((0x0002, 0x0003, 0x0004, 0x000A, 0x000B), 4),
    **dict.fromkeys((0x0005, 0x0006, 0x0007, 0x0014, 0x0040), 8),
    0x0048: 16,
}
_MULTIPLE: Final = 0x1000
_FIRST_NAMED: Final = 0x8000
_NAMED_BY_NUMBER: Final = 0

#: The identifier of an interface before an object's data.
_INTERFACE: Final = 16

#: Most attributes, rows or properties of one kind.
_MOST: Final = 100_000


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> int:
    """Read a file of this format; its first page is its text, and each attachment is a page.

    Returns:
        The number of pages.

    Raises:
        CorruptFile: If nothing in it can be read.
    """
    item = parse_item(stream.read())
    build.page = 1
    ItemWriter(build).write(item)
    return 1 + len(item.attachments)


def parse_item(data: bytes) -> Item:
    """Return the item in a file of this format; what is behind damage is missing.

    Raises:
        CorruptFile: If nothing in it can be read.
    """
    values: dict[int, tuple[int, bytes]] = {}
    recipients: list[dict[int, tuple[int, bytes]]] = []
    parts: list[tuple[dict[int, tuple[int, bytes]], bytes]] = []
    charset = ""
    for identity, content in _attributes(data):
        if identity == _CODE_PAGE:
            charset = charset_of(int.from_bytes(content[:4], "little"))
        elif identity == _PROPERTIES:
            values |= _properties(_Cursor(content))
        elif identity == _RECIPIENTS:
            cursor = _Cursor(content)
            recipients += (_properties(cursor) for _ in range(min(cursor.number(), _MOST)) if cursor.left)
        elif identity == _NEW_ATTACHMENT:
            parts.append(({}, b""))
        elif parts and identity == _ATTACHMENT:
            parts[-1][0].update(_properties(_Cursor(content)))
        elif parts and identity == _DATA:
            parts[-1] = (parts[-1][0], content)
        elif identity in _SAME:
            target = parts[-1][0] if parts and identity == _TITLE else values
            target.setdefault(_SAME[identity], (mapi.STRING8, content))
    if not values and not parts:
        raise CorruptFile("The TNEF file has no content that can be read.")
    return Item(
        Properties(values, charset),
        [Properties(recipient, charset) for recipient in recipients],
        [_attachment(part, content, charset) for part, content in parts],
    )


def _attachment(values: dict[int, tuple[int, bytes]], content: bytes, charset: str) -> Attachment:
    properties = Properties(values, charset)
    kind, data = properties.kind(mapi.DATA), properties.data(mapi.DATA)
    inner = data[_INTERFACE:]
    if kind == mapi.OBJECT and inner.startswith(TNEF_MAGIC):
        return Attachment(properties, bytes, partial(parse_item, inner))
    return Attachment(properties, lambda: content or (inner if kind == mapi.OBJECT else data))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = _HEADER
    for _ in range(_MOST):
        if at + _ATTRIBUTE.size > len(data):
            return
        _level, identity, _type, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        yield identity, data[at : at + length]
        at += length + _CHECKSUM


class _Cursor:
    """Reads values one after the other; behind the end there are only zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """The number of bytes that are left."""
        return max(len(self._data) - self._at, 0)

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def number(self, size: int = 4) -> int:
        """Return the next number."""
        return int.from_bytes(self.take(size), "little")

    def padded(self) -> bytes:
        """Return the next bytes with their length before them, and step over what fills four bytes up."""
        size = self.number()
        piece = self.take(size)
        self.take(-size % 4)
        return piece


def _properties(cursor: _Cursor) -> dict[int, tuple[int, bytes]]:
    """Return the properties in a list; of several values of one property, the first."""
    values: dict[int, tuple[int, bytes]] = {}
    for _ in range(min(cursor.number(), _MOST)):
        if not cursor.left:
            break
        kind, identity = cursor.number(2), cursor.number(2)
        if identity >= _FIRST_NAMED:
            cursor.take(16)
            if cursor.number() == _NAMED_BY_NUMBER:
                identity = named(cursor.number())
            else:
                cursor.padded()
        size = _SIZES.get(kind & ~_MULTIPLE)
        count = cursor.number() if size is None or (size and kind & _MULTIPLE) else 1
        found = [
            cursor.padded() if size is None else cursor.take(size) for _ in range(min(count, cursor.left))
        ]
        if found:
            values[identity] = (kind & ~_MULTIPLE, found[0])
    return values
