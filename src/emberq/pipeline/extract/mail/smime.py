"""Mail that is signed or encrypted as a whole (S/MIME): the content of a signed message; RFC 5652."""

from __future__ import annotations

from typing import Final, NamedTuple

_SIGNED: Final = bytes.fromhex("2a864886f70d010702")

_OCTETS: Final = 0x04

#: Most levels of elements inside each other; a signed message needs six.
_MAX_DEPTH: Final = 12


class _Element(NamedTuple):
    """An element of ASN.1's basic encoding: its tag, and where its content and the next element begin."""

    tag: int
    start: int
    end: int
    following: int


def signed_content(data: bytes) -> bytes | None:
    """Return the content of a signed message; None if the data is encrypted or is no signed message."""
    try:
        kind, wrapped = _children(data, _element(data, 0))[:2]
        if data[kind.start : kind.end] != _SIGNED:
            return None
        _version, _digests, content = _children(data, _children(data, wrapped)[0])[:3]
        parts = _children(data, content)
        # A message that only brings certificates has no content.
        return _octets(data, _children(data, parts[1])[0]) if len(parts) > 1 else b""
    except (IndexError, ValueError):
        return None


def _element(data: bytes, at: int, depth: int = 0) -> _Element:
    tag, size = data[at], data[at + 1]
    at += 2
    if size == 0x80:  # noqa: PLR2004 - the end is marked instead
        return _unbounded(data, tag, at, depth)
    if size > 0x80:  # noqa: PLR2004 - so many bytes have the length
        count = size & 0x7F
        size = int.from_bytes(data[at : at + count])
        at += count
    if at + size > len(data):
        raise ValueError
    return _Element(tag, at, at + size, at + size)


def _unbounded(data: bytes, tag: int, at: int, depth: int) -> _Element:
    if depth > _MAX_DEPTH:
        raise ValueError
    start = at
    while data[at : at + 2] != b"\0\0":
        at = _element(data, at, depth + 1).following
    return _Element(tag, start, at, at + 2)


def _children(data: bytes, parent: _Element) -> list[_Element]:
    children = []
    at = parent.start
    while at < parent.end:
        children.append(_element(data, at))
        at = children[-1].following
    return children


def _octets(data: bytes, element: _Element) -> bytes:
    """Return a string of bytes, which may stand there in pieces."""
    if element.tag == _OCTETS:
        return data[element.start : element.end]
    return b"".join(
        data[piece.start : piece.end] for piece in _children(data, element) if piece.tag == _OCTETS
    )
