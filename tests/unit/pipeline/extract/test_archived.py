"""Archives of documents: each member with its path, and what is left out is told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest

from emberq.errors import ArchiveBomb, CorruptFile, EncryptedFile, NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document, SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness import sample_files as files


def _read(data: bytes, name: str | None = None) -> Document:
    stream = io.BytesIO(data)
    return extract_stream(stream, media_type=detect_stream(stream, name=name))


def _headings(document: Document) -> list[tuple[int, str]]:
    return [
        (segment.level, document.text[segment.start : segment.end])
        for segment in document.segments
        if segment.kind is SegmentKind.HEADING
    ]


def _warnings(document: Document) -> dict[WarningCode, tuple[str, ...]]:
    return {warning.code: warning.names for warning in document.warnings}


MEMBERS = {
    "handbook/first.md": b"# First\n\nmarker-one\n\n## Part\n\nmore\n",
    "handbook/second.docx": files.make_docx(),
    "table.csv": b"name,size\nmarker-two,1\nb,2\nc,3\n",
    "empty.txt": b"",
}

PACKERS = {
    media.ZIP: lambda: files.make_zip(**MEMBERS),
    media.TAR: lambda: files.make_tar(MEMBERS),
    media.GZIP: lambda: gzip.compress(files.make_tar(MEMBERS)),
    media.BZIP2: lambda: bz2.compress(files.make_tar(MEMBERS)),
    media.XZ: lambda: lzma.compress(files.make_tar(MEMBERS)),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_each_member_has_its_path_above_its_text(kind: str) -> None:
    document = _read(PACKERS[kind]())

    assert document.media_type == kind
    assert "marker-one" in document.text
    assert "marker-two | 1" in document.text
    assert document.page_count == 4
    assert not document.warnings
    headings = _headings(document)
    assert headings[:3] == [(1, "handbook/first.md"), (2, "# First"), (3, "## Part")]
    assert (1, "handbook/second.docx") in headings
    assert (1, "table.csv") in headings
    pages = {document.text[s.start : s.end]: s.page for s in document.segments}
    assert pages["marker-one"] == 1


def test_progress_is_told_member_by_member() -> None:
    told: list[tuple[int, int]] = []
    stream = io.BytesIO(files.make_zip(a=b"one\n", b=b"two\n"))

    extract_stream(stream, media_type=media.ZIP, progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 2), (2, 2)]


def test_hidden_files_and_links_are_left_out_without_a_word() -> None:
    hidden = {
        "__MACOSX/._a.txt": b"hidden\n",
        ".git/config": b"hidden\n",
        "a/.DS_Store": b"hidden\n",
        "~$letter.docx": b"hidden\n",
        "Thumbs.db": b"hidden\n",
    }

    for data in (
        files.make_zip(**hidden, **{"./a.txt": b"seen\n"}),
        files.make_tar({**hidden, "./a.txt": b"seen\n"}),
    ):
        document = _read(data)

        assert "hidden" not in document.text
        assert "seen" in document.text
        assert not document.warnings


def test_what_cannot_be_read_is_told_by_its_path() -> None:
    members = {
        "a.txt": b"words\n",
        "scan.tiff": b"MM\0*" + bytes(4) + b"\xff" * 9000,
        "song.mp3": b"ID3\3\0" + bytes(9000),
        "bad.docx": b"PK\x03\x04cut",
    }

    for data in (files.make_zip(**members), files.make_tar(members)):
        document = _read(data)

        assert _warnings(document) == {
            WarningCode.IMAGES_SKIPPED: ("scan.tiff",),
            WarningCode.ATTACHMENT_UNREADABLE: ("song.mp3", "bad.docx"),
        }
        assert "scan.tiff" not in document.text


def test_a_damaged_member_does_not_cost_the_others() -> None:
    data = bytearray(files.make_zip(a=b"first words\n" * 9, b=b"second words\n"))
    data[40] ^= 0xFF

    document = _read(bytes(data))

    assert "second words" in document.text
    assert _warnings(document) == {WarningCode.ATTACHMENT_UNREADABLE: ("a",)}


def test_encrypted_members_are_told() -> None:
    locked = files.lock_members(files.make_zip(a=b"secret\n"))
    with pytest.raises(EncryptedFile):
        _read(locked)

    data = bytearray(files.make_zip(a=b"secret\n", b=b"plain words\n"))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(signature) + flags] |= 1
    document = _read(bytes(data))

    assert "plain words" in document.text
    assert _warnings(document) == {WarningCode.PART_ENCRYPTED: ("a",)}


def test_an_archive_without_any_text_says_how_many_files_it_has() -> None:
    with pytest.raises(NoTextFound, match="2 files"):
        _read(files.make_zip(a=files.PNG, b=files.PNG))


def test_names_are_read_as_their_programs_wrote_them() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number, name in enumerate(("Größe.txt", "Maße.txt", "Zubehör.txt")):
            archive.writestr(f"{number}234567890.txt", name)
    data = target.getvalue()
    # By DOS, in code page 437; and by macOS, in UTF-8 without the flag.
    data = data.replace(b"0234567890.txt", "0/Größe_01.txt".encode("cp437"))
    data = data.replace(b"1234567890.txt", "1/Maße_01.txt".encode())

    assert [text for _level, text in _headings(_read(data))] == [
        "0/Größe_01.txt",
        "1/Maße_01.txt",
        "2234567890.txt",
    ]


def test_a_name_in_the_unicode_field_counts() -> None:
    name = "Übersicht.txt"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        member = zipfile.ZipInfo("_bersicht.txt")
        encoded = name.encode()
        member.extra = (
            struct.pack("<HHBI", 0x7075, 5 + len(encoded), 1, zlib.crc32(b"_bersicht.txt")) + encoded
        )
        archive.writestr(member, "words")

    assert _headings(_read(target.getvalue())) == [(1, name)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_of_a_tar_archive(form: int) -> None:
    names = ["a/" * 60 + "deep.txt", "Größe.txt", "n" * 90 + ".txt"]
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, encoding="utf-8") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 600
            archive.addfile(member, io.BytesIO(b"words " * 100))

    assert [text for _level, text in _headings(_read(target.getvalue()))] == names


def test_archives_inside_archives_end_at_three_levels() -> None:
    data = files.make_zip(**{"deepest.txt": b"deepest\n"})
    inner = files.make_zip(**{"third.zip": data, "second.txt": b"second\n"})
    outer = _read(files.make_zip(**{"second.zip": inner, "first.txt": b"first\n"}))

    assert "second" in outer.text
    assert "deepest" not in outer.text
    assert outer.warnings[0].names == ("third.zip",)


def test_an_archive_in_a_mail_stays_below_its_name() -> None:
    archive = files.make_zip(**{"in/guide.html": b"<h1>Guide</h1><p>words</p>"})

    document = _read(files.make_mail(("docs.zip", "application/zip", archive)))

    assert _headings(document)[-3:] == [(2, "docs.zip"), (3, "in/guide.html"), (4, "Guide")]


def test_one_packed_file_is_read_as_itself() -> None:
    target = io.BytesIO()
    with gzip.GzipFile("notes.md", "w", fileobj=target) as packed:
        packed.write(b"# Notes\n\nwords\n")

    assert _headings(_read(target.getvalue())) == [(1, "notes.md"), (2, "# Notes")]
    assert "words" in _read(bz2.compress(b"plain words\n")).text


def test_a_cut_archive_keeps_what_came_before() -> None:
    whole = files.make_tar({"a.txt": b"first words\n", "b.txt": b"more\n" * 2000})

    document = _read(whole[:1024] + b"garbage " * 128)
    assert "first words" in document.text
    assert WarningCode.PART_UNREADABLE in _warnings(document)

    document = _read(gzip.compress(b"".join(b"line %d of many\n" % n for n in range(20_000)))[:-9])
    assert "line 9000 of many" in document.text
    assert WarningCode.PART_UNREADABLE in _warnings(document)


def test_bombs_are_refused() -> None:
    spaces = b" " * (101 << 20)
    for data in (gzip.compress(spaces), bz2.compress(spaces), files.make_zip(a=spaces)):
        with pytest.raises(ArchiveBomb):
            _read(data)


def test_packed_garbage_is_corrupt() -> None:
    with pytest.raises(CorruptFile):
        _read(b"\x1f\x8b\x08\0garbage")
