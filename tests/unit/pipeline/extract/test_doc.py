"""Word's old binary format, as Word shows it."""

from __future__ import annotations

import io
import random
import struct

import pytest

from emberq.errors import EncryptedFile, FileError
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness.compound import make_compound
from tests.harness.word_binary import Mark, make_doc

CELL = struct.pack("<HB", 0x2416, 1)
ROW = CELL + struct.pack("<HB", 0x2417, 1)
INNER = CELL + struct.pack("<HI", 0x6649, 2)
INNER_CELL = INNER + struct.pack("<HB", 0x244B, 1)
INNER_ROW = INNER_CELL + struct.pack("<HB", 0x244C, 1)


def _read(data: bytes) -> Document:
    stream = io.BytesIO(data)
    return extract_stream(stream, media_type=detect_stream(stream, name="a.txt"))


def _pieces(document: Document) -> list[tuple[str, int, str]]:
    return [(s.kind.value, s.level, document.text[s.start : s.end]) for s in document.segments]


@pytest.mark.parametrize("one_byte", [False, True])
def test_headings_and_paragraphs(one_byte: bool) -> None:
    outline = struct.pack("<HB", 0x2640, 2)
    document = _read(
        make_doc(
            [
                Mark("Über alles\r", 1),
                Mark("Some words, " * 40 + "Größe\x1e5\r"),
                Mark("Part\r", 2),
                Mark("By outline\r", 0, outline),
                Mark("a\x0bb\r"),
                Mark("page\x0c"),
            ],
            one_byte=one_byte,
        )
    )

    assert document.media_type == media.DOC
    assert _pieces(document) == [
        ("heading", 1, "Über alles"),
        ("paragraph", 0, "Some words, " * 40 + "Größe\u20115"),
        ("heading", 2, "Part"),
        ("heading", 3, "By outline"),
        ("paragraph", 0, "a\nb"),
        ("paragraph", 0, "page"),
    ]


def test_tables_and_tables_in_cells() -> None:
    document = _read(
        make_doc(
            [
                *(Mark("before\r"), Mark("a\x07", 0, CELL), Mark("b\x07", 0, CELL), Mark("\x07", 0, ROW)),
                *(
                    Mark("two\r", 0, CELL),
                    Mark("lines\x07", 0, CELL),
                    Mark("\x07", 0, CELL),
                    Mark("\x07", 0, ROW),
                ),
                *(Mark("in\r", 0, INNER_CELL), Mark("ner\r", 0, INNER_CELL), Mark("\r", 0, INNER_ROW)),
                *(Mark("after\x07", 0, CELL), Mark("c\x07", 0, CELL), Mark("\x07", 0, ROW), Mark("end\r")),
            ]
        )
    )

    assert _pieces(document) == [
        ("paragraph", 0, "before"),
        ("table", 0, "a | b\ntwo lines\nin ner after | c"),
        ("paragraph", 0, "end"),
    ]


def test_fields_show_their_results_and_pictures_are_told() -> None:
    document = _read(
        make_doc([Mark('see \x13 HYPERLINK "http://x.org" \x14the \x13 REF a \x14page\x15\x15 \x01here\r')])
    )

    assert document.text == "see the page here"
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.IMAGES_SKIPPED, 1)
    ]


def test_hidden_and_deleted_text_is_not_shown() -> None:
    assert _read(make_doc([Mark("seen unseen shown\r")], hidden=(5, 12))).text == "seen shown"
    assert _read(make_doc([Mark("see (\r")], hidden=(4, 5), is_symbol=True)).text == "see"


def test_notes_headers_and_comments() -> None:
    document = _read(
        make_doc(
            [Mark("body\x02\x05\r")],
            [Mark("\x02 note\r")],
            [Mark("head\r"), Mark("foot\r"), Mark("head\r")],
            [Mark("\x05why?\r")],
            [Mark("\x02 endnote\r")],
            [Mark("box\r")],
            [Mark("stamp\r")],
        )
    )

    assert [text for _kind, _level, text in _pieces(document)] == [
        *("head", "foot", "stamp", "body", "box", "note", "endnote", "Comment: why?"),
    ]


def test_a_document_of_word_95_is_read() -> None:
    data = bytearray(1024) + "Größe und Maß\rmehr Wörter\r".encode("cp1252")
    struct.pack_into("<HH", data, 0, 0xA5DC, 0x65)
    struct.pack_into("<I", data, 0x18, 1024)
    struct.pack_into("<I", data, 0x34, len(data) - 1024)

    assert _read(make_compound({"WordDocument": bytes(data)})).text == "Größe und Maß\n\nmehr Wörter"


def test_a_protected_document_is_told() -> None:
    with pytest.raises(EncryptedFile):
        _read(make_doc([Mark("a\r")], encrypted=True))


def test_damaged_documents_end_typed() -> None:
    whole = make_doc([Mark(f"words {number}\r", number % 3, CELL) for number in range(60)], hidden=(5, 12))
    chance = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(512, len(data))] = chance.randrange(256)
        try:
            _read(bytes(data))
        except FileError:
            continue
