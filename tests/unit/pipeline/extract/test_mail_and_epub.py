"""Mail and books become documents, part by part and chapter by chapter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from emberq.errors import CorruptFile, EncryptedFile, NoTextFound
from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from emberq.pipeline.sandbox.messages import from_bytes, to_bytes
from tests.harness import sample_files as files

HEAD = b"From: a@example.org\nTo: b@example.org\nMessage-ID: <1@example.org>\n"
DRM = (
    b'<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    b'<EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#"><EncryptionMethod Algorithm="%s"/>'
    b"</EncryptedData></encryption>"
)


def read(path: Path, data: bytes) -> Document:
    source = path / "blob"
    source.write_bytes(data)
    return extract(source, media_type=detect(source))


def test_a_mail_has_its_head_and_the_richest_of_its_bodies(tmp_path: Path) -> None:
    document = read(tmp_path, files.make_mail())

    assert document.media_type == media.EML
    first = document.segments[0]
    assert (document.text[first.start : first.end], first.level) == ("Größe der Lieferung", 1)
    assert "From: Zoë <zoe@example.org>\nTo: bob@example.org\nDate: Mon, 01 Jan 2024" in document.text
    assert "The rich body." in document.text
    assert "The plain body." not in document.text


def test_attachments_are_read_as_parts_of_their_own(tmp_path: Path) -> None:
    mail = files.make_mail(
        ("größe.docx", "application/octet-stream", files.make_docx()),
        ("scan.png", "image/png", files.PNG),
        ("locked.pdf", "application/pdf", files.make_pdf(password="secret")),
    )

    document = read(tmp_path, mail)

    assert document.page_count == 4
    pages = {document.text[s.start : s.end]: s.page for s in document.segments}
    assert pages["größe.docx"] == 2
    assert pages["Before the table."] == 2
    assert pages["Attachment: scan.png"] == 3
    assert pages["Attachment: locked.pdf"] == 4
    picture = FileWarning(WarningCode.IMAGES_SKIPPED, 1, ("scan.png",))
    unreadable = FileWarning(WarningCode.ATTACHMENT_UNREADABLE, 1, ("locked.pdf",))
    assert document.warnings == (picture, unreadable)
    assert from_bytes(b"".join(to_bytes(document))) == document


def test_mails_within_mails_are_read_to_a_bounded_depth(tmp_path: Path) -> None:
    mail = HEAD + b"Subject: innermost\n\nThe core.\n"
    for depth in range(6):
        mail = HEAD + b"Subject: level %d\nContent-Type: message/rfc822\n\n" % depth + mail

    document = read(tmp_path, mail)

    assert "level 5" in document.text
    assert "level 0" not in document.text


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "utf-8", "x-unheard-of"])
def test_a_body_is_read_in_its_charset(tmp_path: Path, charset: str) -> None:
    encoding = "utf-8" if charset.startswith("x-") else charset
    body = "Größe der Lieferung über Nacht.\n".encode(encoding)
    head = b"Content-Type: text/plain; charset=%s\nContent-Uploader-Encoding: 8bit\n\n" % charset.encode()

    assert "Größe der Lieferung über Nacht." in read(tmp_path, HEAD + head + body).text


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Type: multipart/mixed; boundary=x" + b";" * 300_000,
        b'Content-Type: multipart/mixed; x="' + b";" * 300_000,
        b"Subject: " + b"=?a?q?" * 60_000,
    ],
    ids=["parameters", "quoted", "words"],
)
def test_a_hostile_header_does_not_hold_the_reader_up(tmp_path: Path, field: bytes) -> None:
    started = time.process_time()

    assert "a@example.org" in read(tmp_path, HEAD + field + b"\n\nbody\n").text

    assert time.process_time() - started < 5


def test_parts_nested_beyond_reason_are_corrupt(tmp_path: Path) -> None:
    levels = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (at, at) for at in range(5000)
    )

    with pytest.raises(CorruptFile):
        read(tmp_path, HEAD + levels)


def test_a_books_chapters_are_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    document = read(tmp_path, files.make_epub())

    assert document.page_count == 2
    assert [(document.text[s.start : s.end], s.page) for s in document.segments] == [
        ("The Book", 1),
        ("Chapter 1", 1),
        ("Text\N{NO-BREAK SPACE}of chapter 1.".replace("\N{NO-BREAK SPACE}", " "), 1),
        ("Chapter 2", 2),
        ("Text of chapter 2.", 2),
    ]


def test_a_chapter_named_many_times_is_read_once(tmp_path: Path) -> None:
    book = files.make_epub()
    with files.open_zip(book) as archive:
        package = archive.read("EPUB/content.opf").decode()
    spine = package[package.index("<itemref") : package.index("</spine>")]
    data = files.replace_members(book, {"EPUB/content.opf": package.replace(spine, spine * 100).encode()})

    assert read(tmp_path, data).text.count("Text of chapter 2.") == 1


def test_a_book_under_rights_management_is_encrypted(tmp_path: Path) -> None:
    member = {"META-INF/encryption.xml": DRM % b"http://www.w3.org/2001/04/xmlenc#aes256-cbc"}

    with pytest.raises(EncryptedFile):
        read(tmp_path, files.replace_members(files.make_epub(), member))


def test_a_book_with_garbled_fonts_is_read(tmp_path: Path) -> None:
    member = {"META-INF/encryption.xml": DRM % b"http://www.idpf.org/2008/embedding"}

    assert "chapter 2" in read(tmp_path, files.replace_members(files.make_epub(), member)).text


@pytest.mark.parametrize("member", ["META-INF/container.xml", "EPUB/content.opf"])
def test_a_book_without_a_readable_index_is_corrupt(tmp_path: Path, member: str) -> None:
    with pytest.raises(CorruptFile):
        read(tmp_path, files.replace_members(files.make_epub(), {member: b"<broken <<"}))


def test_a_cut_book_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile):
        read(tmp_path, files.make_epub()[:1500])


def test_a_book_of_pictures_is_no_success(tmp_path: Path) -> None:
    page = b"<html xmlns='http://www.w3.org/1999/xhtml'><body><img src='a.png'/></body></html>"
    members = {"EPUB/z.xhtml": page, "EPUB/a.xhtml": page}

    with pytest.raises(NoTextFound):
        read(tmp_path, files.replace_members(files.make_epub(), members))
