"""Writes presentations in PowerPoint's old binary format for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from tests.harness.compound import make_compound

__all__ = ["Slide", "make_ppt"]


class Slide(NamedTuple):
    """A slide: texts with their kinds in the outline and in its shapes, its notes, and its pictures."""

    outline: Sequence[tuple[int, str]] = ()
    shapes: Sequence[tuple[int, str]] = ()
    notes: str = ""
    pictures: int = 0


def make_ppt(*slides: Slide, old: Sequence[Slide] = (), mark: int = 0xE391C05F) -> bytes:
    """Write a presentation.

    Args:
        slides: Its slides.
        old: The first slides of an earlier version, which is still in the file.
        mark: What the stream with the present version begins with.
    """
    data = bytearray()
    edit = 0
    for version in filter(None, (old, slides)):
        places = []
        listed = noted = b""
        for number, slide in enumerate(version):
            places.append(len(data))
            data += _slide(slide, 500 + number)
            listed += _record(1011, struct.pack("<5I", 2 + 2 * number, 0, 0, 256 + number, 0))
            listed += b"".join(_text(kind, text) for kind, text in slide.outline)
            places.append(len(data))
            data += _container(1008, _shape([(2, slide.notes), (4, "*")]))
            noted += _record(1011, struct.pack("<5I", 3 + 2 * number, 0, 0, 500 + number, 0))
        places.insert(0, len(data))
        data += _container(1000, _container(4080, listed) + _container(4080, noted, instance=2))
        directory = len(data)
        data += _record(6002, struct.pack(f"<{len(places) + 1}I", 1 | len(places) << 20, *places))
        edit, before = len(data), edit
        data += _record(4085, struct.pack("<IIIIIII", 0, 0, before, directory, 1, 0, 0))
    user = struct.pack("<HHIIII", 0, 4086, 20, 20, mark, edit)
    return make_compound({"PowerPoint Document": bytes(data), "Current User": user})


def _record(kind: int, data: bytes, *, version: int = 0, instance: int = 0) -> bytes:
    return struct.pack("<HHI", version | instance << 4, kind, len(data)) + data


def _container(kind: int, data: bytes, *, instance: int = 0) -> bytes:
    return _record(kind, data, version=15, instance=instance)


def _text(kind: int, text: str) -> bytes:
    head = _record(3999, struct.pack("<I", kind))
    try:
        return head + _record(4008, text.encode("latin-1"))
    except UnicodeEncodeError:
        return head + _record(4000, text.encode("utf-16-le"))


def _shape(texts: Sequence[tuple[int, str]]) -> bytes:
    boxes = b"".join(_container(0xF00D, _text(kind, text)) for kind, text in texts)
    return _container(1036, _container(0xF002, _container(0xF003, _container(0xF004, boxes))))


def _slide(slide: Slide, notes: int) -> bytes:
    atom = _record(1007, struct.pack("<12xIII", 0, notes, 0))
    references = b"".join(
        _container(0xF00D, _record(3998, struct.pack("<I", index)))
        for index in reversed(range(len(slide.outline)))
    )
    pictures = _record(0xF00A, bytes(8), version=2, instance=75) * slide.pictures
    drawing = _container(1036, _container(0xF002, _container(0xF004, references + pictures)))
    return _container(1006, atom + drawing + _shape(slide.shapes))
