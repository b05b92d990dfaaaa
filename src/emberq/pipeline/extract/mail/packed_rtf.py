"""The compressed RTF text of Outlook's items; [MS-OXRTFCP]."""

from __future__ import annotations

import struct
from typing import Final

from emberq.pipeline.extract.limits import Meter

_COMPRESSED: Final = b"LZFu"
_RTF_HEADER: Final = struct.Struct("<II4sI")
#: What the dictionary begins with.
_DICTIONARY: Final = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}"
    b"{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier"
    b"{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_WINDOW: Final = 4096


def unpack_rtf(data: bytes, meter: Meter) -> bytes:
    """Unpack a compressed RTF text ([MS-OXRTFCP]); what is damaged ends it.

    Raises:
        ArchiveBomb: If it unpacks to more than the meter allows.
    """
    if len(data) < _RTF_HEADER.size:
        return b""
    _packed_size, size, magic, _checksum = _RTF_HEADER.unpack_from(data)
    packed = data[_RTF_HEADER.size :]
    size = min(size, meter.limits.part_bytes)
    unpacked = bytes(_unpack(packed, size)) if magic == _COMPRESSED else packed[:size]
    meter.add_unpacked(len(unpacked))
    return unpacked


def _unpack(packed: bytes, size: int) -> bytearray:
    window = bytearray(_DICTIONARY.ljust(_WINDOW, b"\0"))
    at_window = len(_DICTIONARY)
    unpacked = bytearray()
    at = 0
    while at < len(packed) and len(unpacked) < size:
        control = packed[at]
        at += 1
        for bit in range(8):
            if not control >> bit & 1:
                piece = packed[at : at + 1]
                at += 1
            else:
                reference = int.from_bytes(packed[at : at + 2])
                at += 2
                start = reference >> 4
                if start == at_window or at > len(packed):
                    return unpacked[:size]
                # The piece may reach into what it writes itself.
                length = (reference & 0xF) + 2
                distance = (at_window - start) % _WINDOW
                piece = bytes(window[(start + offset % distance) % _WINDOW] for offset in range(length))
            for byte in piece:
                window[at_window] = byte
                at_window = (at_window + 1) % _WINDOW
            unpacked += piece
    return unpacked[:size]
