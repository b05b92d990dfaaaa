"""PowerPoint's old binary format, slide by slide."""

from __future__ import annotations

import io
import random

import pytest

from emberq.errors import EncryptedFile, FileError
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness.powerpoint_binary import Slide, make_ppt


def _read(data: bytes) -> Document:
    stream = io.BytesIO(data)
    return extract_stream(stream, media_type=detect_stream(stream, name="a.txt"))


def _pieces(document: Document) -> list[tuple[int | None, int, str]]:
    return [(s.page, s.level, document.text[s.start : s.end]) for s in document.segments]


def test_slides_have_their_titles_first_then_shapes_and_notes() -> None:
    document = _read(
        make_ppt(
            Slide([(0, "Größe"), (1, "one\rtwo\vthree")], [(4, "東京 box")], "said aloud", pictures=2),
            Slide([(6, "Second")], [(4, "*")]),
        )
    )

    assert document.media_type == media.PPT
    assert document.page_count == 2
    assert _pieces(document) == [
        (1, 1, "Größe"),
        (1, 0, "one\ntwo\nthree"),
        (1, 0, "東京 box"),
        (1, 0, "said aloud"),
        (2, 1, "Second"),
    ]
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.IMAGES_SKIPPED, 2)
    ]


def test_slides_of_earlier_versions_are_not_shown() -> None:
    document = _read(make_ppt(Slide([(0, "new")]), old=[Slide([(0, "old")]), Slide([(0, "deleted")])]))

    assert document.text == "new"


def test_a_protected_presentation_is_told() -> None:
    with pytest.raises(EncryptedFile):
        _read(make_ppt(Slide([(0, "a")]), mark=0xF3D1C4DF))


def test_damaged_presentations_end_typed() -> None:
    whole = make_ppt(*[Slide([(0, f"title {number}")], [(4, "box " * 20)], "said") for number in range(20)])
    chance = random.Random(9)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(512, len(data))] = chance.randrange(256)
        try:
            _read(bytes(data))
        except FileError:
            continue
