"""Writes Outlook's items, as MSG and as TNEF, for tests."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.harness.compound import make_compound

__all__ = ["OutlookItem", "Value", "make_msg", "make_tnef", "pack_rtf"]

#: The value of a property: a text, bytes, a number or a time.
Value: TypeAlias = str | bytes | int | dt.datetime

_EPOCH = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_STRING8, _UNICODE, _BINARY, _OBJECT, _TIME, _NUMBER = 0x1E, 0x1F, 0x102, 0x0D, 0x40, 0x03
_DATA = 0x3701
_TNEF = b"\x78\x9f\x3e\x22"


@dataclass(frozen=True)
class OutlookItem:
    """A mail or another item.

    Attributes:
        properties: Its properties by their identifiers.
        recipients: The properties of each recipient.
        attachments: The properties of each attachment; its bytes, or an item, are its property 0x3701.
        named: Properties that each file numbers anew, by their names.
    """

    properties: Mapping[int, Value]
    recipients: Sequence[Mapping[int, Value]] = ()
    attachments: Sequence[Mapping[int, Value | OutlookItem]] = ()
    named: Mapping[int, Value] = field(default_factory=dict)


def make_msg(item: OutlookItem, *, charset: str | None = None) -> bytes:
    """Write an item as a compound file; texts are in UTF-16, or in another encoding."""
    return make_compound(dict(_streams(item, "", bytes(32), charset)))


def _streams(item: OutlookItem, folder: str, header: bytes, charset: str | None) -> Mapping[str, bytes]:
    streams: dict[str, bytes] = {}
    named = {0x8000 + index: value for index, value in enumerate(item.named.values())}
    streams |= _stored({**item.properties, **named}, folder, header, charset)
    if not folder:
        entries = (struct.pack("<IHH", name, 0, index) for index, name in enumerate(item.named))
        streams["__nameid_version1.0/__substg1.0_00030102"] = b"".join(entries)
    for number, recipient in enumerate(item.recipients):
        streams |= _stored(recipient, f"{folder}__recip_version1.0_#{number:08X}/", bytes(8), charset)
    for number, attachment in enumerate(item.attachments):
        path = f"{folder}__attach_version1.0_#{number:08X}/"
        inner = attachment.get(_DATA)
        plain = {key: value for key, value in attachment.items() if not isinstance(value, OutlookItem)}
        streams |= _stored(plain, path, bytes(8), charset)
        if isinstance(inner, OutlookItem):
            streams |= _streams(inner, f"{path}__substg1.0_3701000D/", bytes(24), charset)
    return streams


def _stored(
    properties: Mapping[int, Value], folder: str, header: bytes, charset: str | None
) -> dict[str, bytes]:
    streams: dict[str, bytes] = {}
    fixed = header
    for identity, value in properties.items():
        kind, data = _encoded(value, charset)
        if kind in {_NUMBER, _TIME}:
            fixed += struct.pack("<HHI", kind, identity, 6) + data.ljust(8, b"\0")
        else:
            fixed += struct.pack("<HHIII", kind, identity, 6, len(data), 0)
            streams[f"{folder}__substg1.0_{identity:04X}{kind:04X}"] = data
    streams[f"{folder}__properties_version1.0"] = fixed
    return streams


def _encoded(value: Value, charset: str | None) -> tuple[int, bytes]:
    match value:
        case str():
            return (_STRING8, value.encode(charset)) if charset else (_UNICODE, value.encode("utf-16-le"))
        case bytes():
            return _BINARY, value
        case int():
            return _NUMBER, value.to_bytes(4, "little")
        case dt.datetime():
            return _TIME, ((value - _EPOCH) // dt.timedelta(microseconds=1) * 10).to_bytes(8, "little")


def make_tnef(item: OutlookItem) -> bytes:
    """Write an item as `winmail.dat`."""
    rows = b"".join(_listed(recipient) for recipient in item.recipients)
    attributes = [
        (1, 0x9003, 6, _listed(item.properties, item.named)),
        (1, 0x9004, 6, struct.pack("<I", len(item.recipients)) + rows),
    ]
    for attachment in item.attachments:
        data = attachment[_DATA]
        others = {key: value for key, value in attachment.items() if key != _DATA}
        attributes.append((2, 0x9002, 6, bytes(14)))
        if isinstance(data, bytes):
            attributes.append((2, 0x800F, 6, data))
        attributes.append((2, 0x9005, 6, _listed(others if isinstance(data, bytes) else attachment)))
    return _TNEF + b"\1\0" + b"".join(_attribute(*attribute) for attribute in attributes)


def _attribute(level: int, identity: int, kind: int, data: bytes) -> bytes:
    return (
        struct.pack("<BHHI", level, identity, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
    )


def _listed(properties: Mapping[int, Value | OutlookItem], named: Mapping[int, Value] | None = None) -> bytes:
    """Return a list of properties, with their number before it."""
    entries = []
    for identity, value in properties.items():
        if isinstance(value, OutlookItem):
            inner = bytes(16) + make_tnef(value)
            entries.append(struct.pack("<HHI", _OBJECT, identity, 1) + _padded(inner))
        else:
            entries.append(_entry(identity, b"", value))
    for index, (name, value) in enumerate((named or {}).items()):
        entries.append(_entry(0x8000 + index, bytes(16) + struct.pack("<II", 0, name), value))
    return struct.pack("<I", len(entries)) + b"".join(entries)


def _entry(identity: int, name: bytes, value: Value) -> bytes:
    kind, data = _encoded(value, None)
    head = struct.pack("<HH", kind, identity) + name
    return head + data if kind in {_NUMBER, _TIME} else head + struct.pack("<I", 1) + _padded(data)


def _padded(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)


def pack_rtf(rtf: bytes) -> bytes:
    """Compress an RTF text with literal bytes, and with references to what repeats directly."""
    packed = bytearray()
    tokens: list[bytes] = []
    at, window = 0, 207
    while at < len(rtf):
        run = 0
        while at > 0 and run < 17 and at + run < len(rtf) and rtf[at + run] == rtf[at - 1]:
            run += 1
        if run > 1:
            tokens.append(struct.pack(">H", (window - 1) % 4096 << 4 | run - 2))
        else:
            run = 1
            tokens.append(rtf[at : at + 1])
        at += run
        window = (window + run) % 4096
    tokens.append(struct.pack(">H", window << 4))
    for start in range(0, len(tokens), 8):
        group = tokens[start : start + 8]
        packed.append(sum(1 << bit for bit, token in enumerate(group) if len(token) > 1))
        packed += b"".join(group)
    return struct.pack("<II4sI", len(packed) + 12, len(rtf), b"LZFu", 0) + bytes(packed)
