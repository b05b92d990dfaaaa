"""Mailboxes, web archives and calendars are read as what they hold."""

from __future__ import annotations

import io

import pytest

from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness import sample_files as files

SEPARATOR = b"From anna@example.org Mon Mar  2 10:00:00 2026\n"


def read(data: bytes, name: str | None = None) -> Document:
    return extract_stream(io.BytesIO(data), media_type=detect_stream(io.BytesIO(data), name=name))


def mail(subject: str, body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\n" for field in fields)
    return SEPARATOR + f"From: a@b\nTo: c@d\nSubject: {subject}\n".encode() + lines + b"\n" + body + b"\n"


def headings(document: Document) -> list[tuple[str, int | None]]:
    return [(document.text[s.start : s.end], s.page) for s in document.segments if s.kind == "heading"]


def test_each_mail_of_a_mailbox_has_its_heading_and_page() -> None:
    document = read(files.make_mailbox())

    assert document.media_type == media.MBOX
    assert document.page_count == 3
    assert headings(document) == [("Größe der Lieferung", 1), ("(no subject)", 2), ("Lager", 3)]


def test_quoted_lines_of_a_mail_are_shown_as_they_were() -> None:
    body = b">From here on.\n>>From there.\n> From a quote.\nFrom a line.\n\nFrom a paragraph on.\n"

    document = read(mail("one", body) + mail("two", b"words"))

    assert document.page_count == 2
    assert "From here on.\n>From there.\n> From a quote.\nFrom a line.\n\nFrom a para" in document.text


@pytest.mark.parametrize(("length", "mails"), [(-1, 2), (9999, 3), (None, 3)])
def test_a_true_length_ends_a_mail_and_a_false_one_does_not(length: int | None, mails: int) -> None:
    body = b"A mailbox in a mail:\n\n" + mail("inner", b"words")
    length = len(body) if length == -1 else length
    fields = [] if length is None else [b"Content-Length: %d" % length]

    assert read(mail("one", body, *fields) + mail("two", b"words")).page_count == mails


def test_a_mail_that_cannot_be_parsed_does_not_hide_the_others() -> None:
    levels = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(50))
    deep = SEPARATOR + b"From: a@b\nTo: c@d\n" + levels + b"\nwords\n\n"

    document = read(mail("one", b"words") + deep + mail("three", b"more"))

    assert headings(document) == [("one", 1), ("three", 3)]
    assert document.warnings == (FileWarning(WarningCode.PART_UNREADABLE, 1, ("mail 2",)),)


def test_a_mailbox_of_one_large_mail_is_a_mail() -> None:
    large = mail("one", b"word " * 30_000)

    assert read(large).media_type == media.EML
    assert read(large + b"\n" + mail("two", b"words")).page_count == 2


@pytest.mark.parametrize("name", ["page.mhtml", "page.doc", "page.eml", None])
def test_of_a_web_archive_the_page_is_read_whatever_its_name(name: str | None) -> None:
    document = read(files.make_web_archive(), name)

    assert document.media_type == media.MHTML
    assert document.text == "Lagerordnung\n\nStapler führen nur Befugte.\n\nIn the frame."
    assert document.warnings == (FileWarning(WarningCode.IMAGES_SKIPPED),)


@pytest.mark.parametrize(
    "head",
    [
        b"MIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\nThis is a Web Archive.\n",
        b"Date: Mon, 2 Mar 2026 10:00:00 +0000\nMessage-ID: <1@wiki>\nSubject: Export\nMIME-Version: 1.0\n%s"
        % b'Content-Type: multipart/related; type="text/html";\n\tboundary="b"\n\n',
        b'From: "Saved by Windows Internet Explorer 8"\nSubject: x\nMIME-Version: 1.0\n%s'
        % b"Content-Type: multipart/related; boundary=b\n\n",
    ],
    ids=["word", "wiki", "explorer"],
)
def test_the_archives_of_many_programs_are_web_archives(head: bytes) -> None:
    page = b"--b\nContent-Type: text/html\n\n<html><head><title>T</title></head><p>words</p></html>\n--b--\n"

    document = read(head + page)

    assert document.media_type == media.MHTML
    assert document.text == "T\n\nwords"


def test_a_page_without_a_title_has_the_one_of_its_archive() -> None:
    head = b"From: <Saved by Blink>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nMIME-Version: 1.0\n"
    head += b"Content-Type: text/html\n\n"

    assert read(head + b"<html><body>words</body></html>").text == "Grüße\n\nwords"


def test_a_duration_is_shown_for_an_end() -> None:
    event = b'BEGIN:VEVENT\nDTSTART;TZID="(UTC+01:00) Berlin":20260302T100000\nDURATION:PT1H30M\nEND:VEVENT\n'

    assert (
        read(b"BEGIN:VCALENDAR\n" + event).text == "When: 2026-03-02 10:00 (UTC+01:00) Berlin for 1 h 30 min"
    )


def test_a_calendar_is_a_list_of_what_happens_when() -> None:
    document = read(files.CALENDAR)

    assert document.media_type == media.ICALENDAR
    assert document.text == (
        "Betriebsausflug\n\nWhen: 2026-06-01 to 2026-06-02\nWhere: Köln\n\n"
        "Bericht\n\nWhen: 2026-06-05 17:00 (UTC)\nStatus: needs-action"
    )
