"""PDF files become pages of text, or are refused with the right error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emberq.errors import CorruptFile, EncryptedFile, FileError, NoTextFound
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from tests.harness import sample_files as files

PDF = files.make_pdf()


def read(path: Path, data: bytes) -> Document:
    source = path / "blob"
    source.write_bytes(data)
    return extract(source, media_type=detect(source))


def test_pages_headings_and_paragraphs_are_found(tmp_path: Path) -> None:
    document = read(tmp_path, PDF)

    assert document.page_count == 2
    found = [(s.kind, s.page, document.text[s.start : s.end].split()[:3]) for s in document.segments]
    assert found == [
        (SegmentKind.HEADING, 1, ["Report"]),
        (SegmentKind.PARAGRAPH, 1, ["The", "first", "paragraph."]),
        (SegmentKind.PARAGRAPH, 1, ["The", "second", "paragraph."]),
        (SegmentKind.PARAGRAPH, 2, ["Page", "two."]),
    ]


def test_the_text_has_no_marks_of_its_format(tmp_path: Path) -> None:
    text = read(tmp_path, PDF).text

    assert not set(text) & set("\r\0\x02\ufffe")


def test_progress_counts_pages(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(files.make_pdf(["One."], ["Two."], ["Three."]))
    seen: list[tuple[int, int]] = []

    extract(tmp_path / "blob", media_type=media.PDF, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_page_without_text_keeps_its_number(tmp_path: Path) -> None:
    document = read(tmp_path, files.make_pdf(["One."], ["&nbsp;"], ["Three."]))

    assert document.page_count == 3
    assert [segment.page for segment in document.segments] == [1, 3]


@pytest.mark.parametrize(("pages", "said"), [(1, "1 page and"), (2, "2 pages and")])
def test_a_scan_is_no_success(tmp_path: Path, pages: int, said: str) -> None:
    with pytest.raises(NoTextFound, match=said) as caught:
        read(tmp_path, files.make_scan(pages))

    assert "OCR" in caught.value.hint


def test_a_pdf_with_a_password_is_encrypted(tmp_path: Path) -> None:
    with pytest.raises(EncryptedFile):
        read(tmp_path, files.make_pdf(password="secret"))


def test_a_pdf_that_anybody_may_open_is_read(tmp_path: Path) -> None:
    assert "Page two." in read(tmp_path, files.make_pdf(password="")).text


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.98])
def test_a_cut_pdf_is_corrupt(tmp_path: Path, part: float) -> None:
    with pytest.raises(CorruptFile):
        read(tmp_path, PDF[: int(len(PDF) * part)])


def test_a_pdf_that_lacks_only_its_last_lines_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="cut short"):
        read(tmp_path, PDF[: PDF.rindex(b"startxref")])


@settings(max_examples=60)
@given(st.data())
def test_flipped_bytes_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(PDF)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))

    try:
        document = files.extract_bytes(bytes(content), media.PDF)
    except FileError:
        return

    done = 0
    for segment in document.segments:
        assert done <= segment.start < segment.end <= len(document.text)
        done = segment.end
