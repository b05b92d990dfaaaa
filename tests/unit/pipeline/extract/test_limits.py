"""What a file becomes is counted while it is read, attachments and repeated parts included."""

from __future__ import annotations

import io
import random
import struct
import time
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.errors import ArchiveBomb, CorruptFile, FileTooLarge
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.builder import DocumentBuilder, clean
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.limits import Limits, Meter
from emberq.pipeline.extract.packed.archive import count_unpacked, open_archive, read_member
from emberq.pipeline.extract.read import extract
from emberq.pipeline.extract.text.charsets import decode_declared
from tests.harness import sample_files as files
from tests.hostile.archives import understate
from tests.hostile.kinds import zip_members
from tests.hostile.mails import attach

MIB = 1 << 20


def read(path: Path, data: bytes, *, name: str = "file", factor: float = 1.0) -> Document:
    source = path / "blob"
    source.write_bytes(data)
    return extract(source, media_type=detect(source, name=name), factor=factor)


def builder(*, characters: int = 1000, segments: int = 1000) -> DocumentBuilder:
    return DocumentBuilder(Meter(Limits(characters=characters, segments=segments)))


def test_a_document_may_have_as_many_characters_as_its_limit_and_no_more() -> None:
    build = builder(characters=10)
    build.paragraph("a" * 10)
    with pytest.raises(FileTooLarge, match="more than 10 characters") as caught:
        build.paragraph("b")
    assert "file_budget" in caught.value.hint


@pytest.mark.parametrize(
    "append",
    [
        lambda build: build.paragraph("a"),
        lambda build: build.heading("a", 1),
        lambda build: build.table([["a"]]),
        lambda build: build.extend("a", []),
    ],
)
def test_every_segment_is_counted(append: Callable[[DocumentBuilder], None]) -> None:
    build = builder(segments=3)
    for _ in range(3):
        append(build)
    with pytest.raises(FileTooLarge, match="more than 3 headings, paragraphs and tables"):
        append(build)


def test_a_table_is_refused_before_its_rows_are_in_memory() -> None:
    seen = 0

    def rows() -> object:
        nonlocal seen
        while True:
            seen += 1
            yield ["a" * 100, "b" * 100]

    with pytest.raises(FileTooLarge):
        builder(characters=1000).table(rows())  # type: ignore[arg-type]
    assert seen < 10


def test_the_same_text_may_be_longer_in_a_larger_file() -> None:
    small, large = Limits.of(media.TEXT, 1000), Limits.of(media.TEXT, 100 * MIB)
    assert 5_000_000 <= small.characters < large.characters
    assert large.characters >= 100 * MIB
    assert Limits.of(media.DOCX, MIB).characters > Limits.of(media.TEXT, MIB).characters


def test_the_setting_raises_every_limit() -> None:
    once, twice = Limits.of(media.DOCX, MIB), Limits.of(media.DOCX, MIB, factor=2.0)
    assert twice.characters == 2 * once.characters
    assert twice.unpacked_bytes == 2 * once.unpacked_bytes == 500 * MIB
    assert twice.part_bytes == 2 * once.part_bytes == 200 * MIB


def test_a_file_with_more_text_than_its_budget_is_refused(tmp_path: Path) -> None:
    data = b'{"' + b"k" * 10_000 + b'": [' + b"1," * 1000 + b"1]}"
    with pytest.raises(FileTooLarge, match="characters of text"):
        read(tmp_path, data)
    assert len(read(tmp_path, data, factor=10.0).text) > 10_000_000


def test_attachments_count_as_part_of_their_mail(tmp_path: Path) -> None:
    attachment = zip_members({"a": random.Random(1).randbytes(4 * MIB) * 22})
    meter = Meter()
    with zipfile.ZipFile(io.BytesIO(attachment)) as archive:
        assert read_member(archive, "a", meter) == read_member(archive, "a", meter)
        with pytest.raises(ArchiveBomb):
            read_member(archive, "a", meter)
    with pytest.raises(ArchiveBomb):
        read(tmp_path, attach(files.make_bomb(), "bomb.docx"), name="a.eml")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_a_part_unpacks_to_is_counted(method: int) -> None:
    container = zip_members({"a": b"a" * 3 * MIB, "b": b"b" * 3 * MIB}, method=method)
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        meter = Meter(Limits(unpacked_bytes=5 * MIB))
        assert read_member(archive, "a", meter) == b"a" * 3 * MIB
        with pytest.raises(ArchiveBomb, match="more than 5 MiB"):
            read_member(archive, "b", meter)
        with pytest.raises(ArchiveBomb, match="more than 5 MiB"):
            count_unpacked(io.BytesIO(container), archive, Meter(Limits(unpacked_bytes=5 * MIB)))
        with pytest.raises(ArchiveBomb, match="part a unpacks"):
            read_member(archive, "a", Meter(Limits(part_bytes=2 * MIB)))
        count_unpacked(io.BytesIO(container), archive, Meter(Limits(unpacked_bytes=6 * MIB)))


def test_a_size_that_a_directory_understates_is_not_believed() -> None:
    container = understate(zip_members({"a": b"a" * 3 * MIB}), "a")
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        assert archive.getinfo("a").file_size == 100
        with pytest.raises(ArchiveBomb, match="more than 2 MiB"):
            count_unpacked(io.BytesIO(container), archive, Meter(Limits(unpacked_bytes=2 * MIB)))
        with pytest.raises(CorruptFile):
            read_member(archive, "a", Meter())


def test_a_directory_that_declares_a_bomb_is_refused_before_anything_is_unpacked() -> None:
    container = bytearray(zip_members({"a": b"a" * MIB}))
    at = container.rfind(b"PK\x01\x02")
    container[at + 24 : at + 28] = struct.pack("<I", 3000 * MIB)
    with pytest.raises(ArchiveBomb, match="3,000 MiB"):
        open_archive(io.BytesIO(bytes(container)), Meter())


def test_films_in_a_presentation_are_no_bomb() -> None:
    container = zip_members({f"film-{n}": bytes(60 * MIB) for n in range(6)}, method=zipfile.ZIP_STORED)
    open_archive(io.BytesIO(container), Meter()).close()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_part_that_is_packed_in_a_way_without_bounds_is_refused(method: int) -> None:
    container = zip_members({"a": b"a" * 1000}, method=method)
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        with pytest.raises(CorruptFile, match="packed in a way"):
            read_member(archive, "a", Meter())
        with pytest.raises(CorruptFile, match="packed in a way"):
            count_unpacked(io.BytesIO(container), archive, Meter())


@pytest.mark.parametrize("run", ["\u0301\u0323", "\u0301", "\u0f73", "\u3099\u0323", "\U0001d165\u0323"])
def test_a_long_run_of_combining_marks_is_cut_and_takes_no_time(run: str) -> None:
    started = time.thread_time()
    text = clean("a" + run * 200_000 + "b")
    assert time.thread_time() - started < 5  # NFC alone would take minutes
    assert text.startswith(unicodedata.normalize("NFC", "a" + run)[0])
    assert text.endswith("b")
    assert len(text) <= 2 + 2 * 30


def test_no_run_that_a_language_has_is_cut() -> None:
    for text in ("e\u0301", "a" + "\u0301\u0323" * 15, "\u2500" * 100, "👩\u200d👩\u200d👧" * 50, "…" * 40):
        assert clean(text) == unicodedata.normalize("NFC", text)


@given(st.text(st.sampled_from("a \u0301\u0323\u0f73\u2500\ufe0f")))
def test_cleaning_is_done_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    "codec",
    [
        *("punycode", "idna", "unicode_escape", "raw_unicode_escape", "utf-7", "uu", "hex", "bz2", "zlib"),
        *(
            "rot13",
            "base64",
            "quopri",
            "undefined",
            "charmap",
            "utf_8\0",
            "no-such",
            "",
            "a" * 9999,
            "\ud800",
        ),
    ],
)
def test_a_codec_that_is_no_encoding_of_text_is_not_used(codec: str) -> None:
    assert decode_declared(b"abc", codec) is None


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("utf-8", "é"),
        ("UTF8", "é"),
        ("ISO-8859-15", "€"),
        ("windows-1250", "ě"),
        ("koi8-r", "ж"),
        ("Shift_JIS", "日本"),
        ("iso-2022-jp", "日本"),
        ("gb18030", "漢"),
        ("big5", "漢"),
        ("ks_c_5601-1987", "한"),
        ("euc-kr", "한"),
        ("tis-620", "ก"),
        ("macintosh", "é"),
    ],
)
def test_an_encoding_that_mail_and_pages_have_is_used(charset: str, text: str) -> None:
    assert decode_declared(text.encode(charset), charset) == text


def test_bytes_that_do_not_fit_the_declared_encoding_are_left_to_detection() -> None:
    assert decode_declared(b"\xff\xfe\xfd", "utf-8") is None
