"""Word, PowerPoint and workbooks become documents, or are refused with the right error."""

from __future__ import annotations

import io
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emberq.errors import CorruptFile, EncryptedFile, FileError, NoTextFound
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract.detect import detect, detect_stream
from emberq.pipeline.extract.read import extract
from tests.harness import sample_files as files

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def read(path: Path, data: bytes) -> Document:
    source = path / "blob"
    source.write_bytes(data)
    return extract(source, media_type=detect(source))


def pieces(document: Document) -> list[tuple[SegmentKind, int | None, int, str]]:
    return [(s.kind, s.page, s.level, document.text[s.start : s.end]) for s in document.segments]


def word_body(body: str) -> bytes:
    document = f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    return files.replace_members(files.make_docx(), {"word/document.xml": document.encode()})


def test_word_is_read_in_order_with_everything_a_reader_sees(tmp_path: Path) -> None:
    document = read(tmp_path, files.make_docx())

    assert document.page_count is None
    assert pieces(document) == [
        (SegmentKind.PARAGRAPH, None, 0, "The header"),
        (SegmentKind.HEADING, None, 1, "Guide"),
        (SegmentKind.PARAGRAPH, None, 0, "Before the table."),
        (SegmentKind.TABLE, None, 0, "name | size | unit\na | 1 | kg"),
        (SegmentKind.HEADING, None, 2, "Install"),
        (SegmentKind.PARAGRAPH, None, 0, "After the table. Added."),
        (SegmentKind.PARAGRAPH, None, 0, "In the box"),
        (SegmentKind.PARAGRAPH, None, 0, "The footer"),
    ]


def test_an_outline_level_of_any_length_is_no_crash(tmp_path: Path) -> None:
    level = "9" * 5000
    body = f'<w:p><w:pPr><w:outlineLvl w:val="{level}"/></w:pPr><w:r><w:t>words</w:t></w:r></w:p>'

    assert "words" in read(tmp_path, word_body(body)).text


def test_entities_are_not_unfolded(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    document = (
        f'<!DOCTYPE d [<!ENTITY e0 "boom">{entities}]><w:document xmlns:w="{WORD}"><w:body>'
        "<w:p><w:r><w:t>&e11;</w:t></w:r></w:p></w:body></w:document>"
    )
    data = files.replace_members(files.make_docx(), {"word/document.xml": document.encode()})

    with pytest.raises(CorruptFile):
        read(tmp_path, data)


def test_a_word_file_without_words_is_no_success(tmp_path: Path) -> None:
    data = files.replace_members(
        word_body("<w:p/>"),
        {name: f'<w:hdr xmlns:w="{WORD}"/>'.encode() for name in ("word/header1.xml", "word/footer1.xml")},
    )

    with pytest.raises(NoTextFound):
        read(tmp_path, data)


def test_slides_are_pages_with_tables_groups_and_notes(tmp_path: Path) -> None:
    document = read(tmp_path, files.make_pptx())

    assert document.page_count == 2
    assert pieces(document) == [
        (SegmentKind.HEADING, 1, 1, "First slide"),
        (SegmentKind.PARAGRAPH, 1, 0, "Point one\nPoint two"),
        (SegmentKind.TABLE, 1, 0, "name | size\na | 1"),
        (SegmentKind.PARAGRAPH, 1, 0, "Said aloud"),
        (SegmentKind.HEADING, 2, 1, "Second slide"),
        (SegmentKind.PARAGRAPH, 2, 0, "In the group"),
    ]


def test_a_slide_named_many_times_is_read_once(tmp_path: Path) -> None:
    deck = files.make_pptx()
    with files.open_zip(deck) as archive:
        main = archive.read("ppt/presentation.xml").decode()
    listed = main[main.index("<p:sldIdLst>") + 12 : main.index("</p:sldIdLst>")]
    data = files.replace_members(deck, {"ppt/presentation.xml": main.replace(listed, listed * 50).encode()})

    document = read(tmp_path, data)

    assert document.page_count == 2
    assert document.text.count("Second slide") == 1


def test_sheets_are_pages_with_their_names_as_headings(tmp_path: Path) -> None:
    document = read(tmp_path, files.make_xlsx())

    assert document.page_count == 2
    assert pieces(document) == [
        (SegmentKind.HEADING, 1, 1, "Sizes"),
        (SegmentKind.TABLE, 1, 0, "name | size\na | 1\nb | 2.5"),
        (SegmentKind.HEADING, 2, 1, "Other"),
        (SegmentKind.TABLE, 2, 0, "alone"),
    ]


def test_a_workbook_of_empty_sheets_is_no_success(tmp_path: Path) -> None:
    target = io.BytesIO()
    openpyxl.Workbook().save(target)

    with pytest.raises(NoTextFound):
        read(tmp_path, target.getvalue())


@pytest.mark.parametrize("stream", ["PowerPoint Document", "WordDocument"])
def test_an_old_document_without_its_text_is_corrupt(tmp_path: Path, stream: str) -> None:
    with pytest.raises(CorruptFile):
        read(tmp_path, files.make_ole(stream))


def test_an_office_file_with_a_password_is_encrypted(tmp_path: Path) -> None:
    with pytest.raises(EncryptedFile):
        read(tmp_path, files.make_ole("EncryptionInfo", "EncryptedPackage"))


def test_a_damaged_old_workbook_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile):
        read(tmp_path, files.make_ole("Workbook"))


@pytest.mark.parametrize("make", [files.make_docx, files.make_pptx, files.make_xlsx])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_container_is_corrupt(tmp_path: Path, make: files.Maker, part: float) -> None:
    data = make()

    with pytest.raises(CorruptFile):
        read(tmp_path, data[: int(len(data) * part)])


@pytest.mark.parametrize(
    ("make", "member"),
    [
        (files.make_docx, "word/document.xml"),
        (files.make_pptx, "ppt/slides/slide1.xml"),
        (files.make_xlsx, "xl/worksheets/sheet1.xml"),
    ],
)
def test_a_part_that_is_not_xml_is_corrupt(tmp_path: Path, make: files.Maker, member: str) -> None:
    with pytest.raises(CorruptFile):
        read(tmp_path, files.replace_members(make(), {member: b"<broken <<"}))


@pytest.mark.parametrize("make", [files.make_docx, files.make_pptx, files.make_xlsx])
def test_a_locked_member_is_encrypted(tmp_path: Path, make: files.Maker) -> None:
    with pytest.raises(EncryptedFile):
        read(tmp_path, files.lock_members(make()))


@settings(max_examples=60)
@given(st.sampled_from(("docx", "pptx", "xlsx")), st.data())
def test_flipped_bytes_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    content = bytearray(CONTENTS[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    stream = io.BytesIO(content)

    try:
        found = detect_stream(stream)
        document = files.extract_bytes(bytes(content), found)
    except FileError:
        return

    assert all(s.start < s.end <= len(document.text) for s in document.segments)


CONTENTS = {"docx": files.make_docx(), "pptx": files.make_pptx(), "xlsx": files.make_xlsx()}
