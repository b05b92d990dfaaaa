"""What a file is, told by its bytes."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.errors import (
    ArchiveBomb,
    CorruptFile,
    EmptyFile,
    EncryptedFile,
    FileError,
    UnsupportedMediaType,
)
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect, detect_stream
from tests.harness import sample_files as files
from tests.harness.eventually import scaled

NOT_READ = {
    "a picture": files.PNG,
    "PostScript": b"%!PS-Adobe-3.0\n",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8,
    "a Java program": files.make_zip(**{"META-INF/MANIFEST.MF": b"text"}),
    "zeros": bytes(5000),
}

SIGNATURES = (
    *(b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    *(b"%PDF-1.4\n", b"\xff\xfe", b"{"),
)

#: Texts that once took minutes: patterns that part them in every way there is.
HOSTILE = {
    "comments": b"<!-- x --><!--" * 4000,
    "brackets": b"[" * 65_000,
    "an open link": b"[a](" + b"b" * 65_000,
    "many open links": b"[a](b " * 10_000,
    "rules": b"---|" * 16_000 + b"x",
    "blanks": b"\n|" + b" " * 65_000 + b"x",
    "assignments": b"a" * 65_000,
    "deep JSON": b"[" * 200_000,
}


@pytest.mark.parametrize("media_type", files.EVERY_FORMAT)
@pytest.mark.parametrize("name", [None, "wrong.bin", "wrong.pdf", "wrong.txt", "wrong.docx"])
def test_a_type_is_told_by_content_whatever_the_name(media_type: str, name: str | None) -> None:
    make, _ = files.EVERY_FORMAT[media_type]

    assert detect_stream(io.BytesIO(make()), name=name) == media_type


def test_a_name_decides_where_the_text_does_not() -> None:
    def kind(data: bytes, name: str) -> str:
        return detect_stream(io.BytesIO(data), name=name)

    assert kind(b"just words\n", "a.md") == media.MARKDOWN
    assert kind(b"just words\n", "a.txt") == media.TEXT
    assert kind(b"just words\n", "a.exe") == media.TEXT
    assert kind(b"name,size\na,1\n", "a.csv") == media.CSV
    assert kind(b"name,size\na,1\n", "a.log") == media.TEXT


def test_text_that_only_mentions_a_format_is_text() -> None:
    assert detect_stream(io.BytesIO(b"A PDF begins with %PDF-1.4, as everyone knows.\n")) == media.TEXT
    assert detect_stream(io.BytesIO(b"if a < b and b > c:\n    <html>\n")) == media.TEXT


def test_a_pdf_behind_a_gateways_bytes_is_a_pdf() -> None:
    assert detect_stream(io.BytesIO(b"@PJL JOB\r\n" + files.make_pdf())) == media.PDF


def test_what_contains_a_pdf_is_no_pdf() -> None:
    pdf = files.make_pdf()
    picture = b"\1\0\0\0\x6c\0\0\0" + bytes(32) + b" EMF\0\0\1\0" + bytes(60) + pdf

    assert detect_stream(io.BytesIO(files.make_tar({"a.pdf": pdf}))) == media.TAR
    with pytest.raises(UnsupportedMediaType):
        detect_stream(io.BytesIO(picture))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_text_is_text_in_any_encoding(encoding: str) -> None:
    data = ("Größe und Maß, ein Satz wie jeder.\n" * 20).encode(encoding)

    assert detect_stream(io.BytesIO(data)) == media.TEXT


@pytest.mark.parametrize("data", NOT_READ.values(), ids=NOT_READ.keys())
@pytest.mark.parametrize("name", ["a.txt", "a.pdf"])
def test_what_has_no_reader_is_refused(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        detect_stream(io.BytesIO(data), name=name)

    assert caught.value.hint


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pdf").touch()

    with pytest.raises(EmptyFile):
        detect(tmp_path / "empty.pdf", name="empty.pdf")


def test_an_encrypted_office_file_is_refused() -> None:
    with pytest.raises(EncryptedFile):
        detect_stream(io.BytesIO(files.make_ole("EncryptedPackage", "EncryptionInfo")), name="a.docx")


def test_a_compound_file_without_a_directory_is_corrupt() -> None:
    with pytest.raises(CorruptFile):
        detect_stream(io.BytesIO(files.make_ole("Workbook")[:600]))


def test_an_old_workbook_is_a_workbook() -> None:
    assert detect_stream(io.BytesIO(files.make_ole("Workbook"))) == media.XLS


def test_a_cut_container_is_corrupt() -> None:
    with pytest.raises(CorruptFile):
        detect_stream(io.BytesIO(files.make_docx()[:2000]))


def test_a_bomb_is_refused_by_its_directory() -> None:
    started = time.monotonic()

    with pytest.raises(ArchiveBomb):
        detect_stream(io.BytesIO(files.make_bomb()))

    assert time.monotonic() - started < scaled(60)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.timeout(20)
def test_hostile_text_does_not_hold_detection_up(data: bytes) -> None:
    started = time.process_time()

    detect_stream(io.BytesIO(data))

    assert time.process_time() - started < 3


@given(
    st.one_of(
        st.binary(max_size=2000),
        st.text(max_size=500).map(lambda text: text.encode("utf-8", "replace")),
        st.tuples(
            st.sampled_from(SIGNATURES),
            st.binary(max_size=2000),
        ).map(b"".join),
    ),
    st.one_of(st.none(), st.text(max_size=20)),
)
def test_detection_of_any_bytes_answers_or_refuses(data: bytes, name: str | None) -> None:
    stream = io.BytesIO(data)

    try:
        kind = detect_stream(stream, name=name)
    except FileError:
        return

    assert kind
    assert stream.tell() == 0
