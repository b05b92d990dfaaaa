"""Outlook's messages and `winmail.dat` are read as the mails that they are."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import struct
import time
from collections.abc import Callable

import pytest

from emberq.errors import FileError
from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.mail.packed_rtf import unpack_rtf
from emberq.pipeline.extract.read import extract_stream
from tests.harness import sample_files as files
from tests.harness.outlook import OutlookItem, Value, make_msg, make_tnef, pack_rtf

SENT = dt.datetime(2026, 3, 2, 10, 0, tzinfo=dt.UTC)
HEAD: dict[int, Value] = {
    0x1A: "IPM.Note",
    0x37: "Größe der Lieferung",
    0x42: "Zoë",
    0x5D02: "zoe@example.org",
    0x39: SENT,
}
RECIPIENTS: tuple[dict[int, Value], ...] = (
    {0xC15: 1, 0x3001: "Bert", 0x39FE: "bert@example.org"},
    {0xC15: 2, 0x3001: "Cleo", 0x3003: "/O=EX/CN=CLEO"},
)
INNER = OutlookItem({0x1A: "IPM.Note", 0x37: "Angebot", 0x1000: "Der Preis ist 4711 Euro."})
ITEM = OutlookItem(
    {**HEAD, 0x1013: "<p>Die <b>Körbe</b> sind da.</p>".encode(), 0x3FDE: 65001, 0x1000: "plain"},
    RECIPIENTS,
    (
        {0x3707: "größe.csv", 0x3701: files.CSV},
        {0x3707: "logo.png", 0x3701: files.PNG, 0x3712: "logo@1"},
        {0x3001: "Angebot", 0x3701: INNER},
        {0x3704: "LOCKED~1.PDF", 0x3701: files.make_pdf(password="secret")},
    ),
)
MAKERS = pytest.mark.parametrize("make", [make_msg, make_tnef])


def read(data: bytes) -> Document:
    return extract_stream(io.BytesIO(data), media_type=detect_stream(io.BytesIO(data)))


def headings(document: Document) -> list[tuple[str, int, int | None]]:
    return [
        (document.text[s.start : s.end], s.level, s.page) for s in document.segments if s.kind == "heading"
    ]


@pytest.mark.parametrize(("make", "kind"), [(make_msg, media.MSG), (make_tnef, media.TNEF)])
def test_an_item_is_read_with_its_attachments(make: Callable[[OutlookItem], bytes], kind: str) -> None:
    document = read(make(ITEM))

    assert document.media_type == kind
    assert document.page_count == 5
    assert (
        "From: Zoë <zoe@example.org>\nTo: Bert <bert@example.org>\nCc: Cleo\n"
        "Date: Mon, 02 Mar 2026 10:00:00 +0000\n\nDie Körbe sind da." in document.text
    )
    assert "plain" not in document.text
    assert "José | Cádiz | 37" in document.text
    assert "Angebot\n\nDer Preis ist 4711 Euro." in document.text
    assert headings(document) == [
        ("Größe der Lieferung", 1, 1),
        ("größe.csv", 2, 2),
        ("Angebot", 2, 4),
    ]
    assert document.warnings == (
        FileWarning(WarningCode.IMAGES_SKIPPED, 1, ("logo.png",)),
        FileWarning(WarningCode.ATTACHMENT_UNREADABLE, 1, ("LOCKED~1.PDF",)),
    )


def test_old_messages_are_read_in_their_code_page() -> None:
    item = OutlookItem({0x37: "Договор", 0x1000: "Поставим в июле", 0x3FFD: 1251})

    text = read(make_msg(item, charset="cp1251")).text

    assert text.split("\n\n") == ["Договор", "Поставим в июле"]


@MAKERS
def test_an_appointment_has_its_time_and_place(make: Callable[[OutlookItem], bytes]) -> None:
    end = SENT + dt.timedelta(hours=1)
    item = OutlookItem(
        {0x1A: "IPM.Appointment", 0x37: "Inventur", 0x1000: "Listen mitbringen."},
        named={0x820D: SENT, 0x820E: end, 0x8208: "Halle 2"},
    )

    assert read(make(item)).text == (
        "Inventur\n\nStart: Mon, 02 Mar 2026 10:00:00 +0000\nEnd: Mon, 02 Mar 2026 11:00:00 +0000\n"
        "Where: Halle 2\n\nListen mitbringen."
    )


@MAKERS
def test_items_inside_each_other_are_read_to_a_bounded_depth(make: Callable[[OutlookItem], bytes]) -> None:
    item = OutlookItem({0x37: "level 5", 0x1000: "core"})
    for level in (4, 3, 2, 1):
        item = OutlookItem({0x37: f"level {level}"}, attachments=({0x3001: f"in {level}", 0x3701: item},))

    document = read(make(item))

    assert [text for text, _level, _page in headings(document)] == ["level 1", "level 2", "level 3"]
    assert document.warnings == (FileWarning(WarningCode.TRUNCATED_AT_LIMIT, 1, ("in 3",)),)


@pytest.mark.parametrize("known", [True, False])
def test_winmail_dat_adds_what_the_mail_does_not_have(known: bool) -> None:
    body = "Die Körbe sind da." if known else "Siehe Anhang."
    mail = files.make_mail(("winmail.dat", "application/ms-tnef", make_tnef(ITEM)))

    document = read(mail.replace(b"The plain body.", body.encode()).replace(b"7bit", b"8bit"))

    assert document.text.count("Die Körbe sind da.") == 1
    assert "winmail.dat" not in document.text
    assert "José | Cádiz | 37" in document.text
    assert [text for text, _level, _page in headings(document)][1:] == ["größe.csv", "Angebot"]


def test_a_signed_message_is_read() -> None:
    entity = (
        b'Content-Type: multipart/signed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
        b"The signed words.\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\nx\r\n--b--\r\n"
    )
    signed: dict[int, Value] = {**HEAD, 0x1A: "IPM.Note.SMIME.MultipartSigned"}
    encrypted: dict[int, Value] = {**HEAD, 0x1A: "IPM.Note.SMIME"}

    assert "The signed words." in read(make_msg(OutlookItem(signed, (), ({0x3701: entity},)))).text
    told = read(make_msg(OutlookItem(encrypted, (), ({0x3701: b"\x30\x03\x02\x01\x01"},))))
    assert told.warnings[0].code == WarningCode.PART_ENCRYPTED


def test_compressed_rtf_is_unpacked() -> None:
    rtf = b"{\\rtf1\\ansi " + b"aaaaaaaaaaaaaaaaaaaaaaaaab" * 400 + b"}"

    assert unpack_rtf(pack_rtf(rtf), Meter()) == rtf
    # The example of the specification, with references into what the dictionary begins with.
    example = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    assert unpack_rtf(example, Meter()) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    assert unpack_rtf(example[:24], Meter()) == b"{\\rtf1\\ansi\\ansicpg"


@MAKERS
def test_a_text_may_stand_in_compressed_rtf_only(make: Callable[[OutlookItem], bytes]) -> None:
    rtf = b"{\\rtf1\\ansi\\ansicpg1252 Die K\\'f6rbe sind da.}"

    item = OutlookItem({0x37: "Lager", 0x1009: pack_rtf(rtf)})

    assert read(make(item)).text == "Lager\n\nDie Körbe sind da."


@MAKERS
def test_a_damaged_item_ends_typed(make: Callable[[OutlookItem], bytes]) -> None:
    data = make(ITEM)
    for cut in range(6, len(data), 397):
        with contextlib.suppress(FileError):
            read(data[:cut])


def test_many_empty_values_do_not_hold_the_reader_up() -> None:
    empty = struct.pack("<HHI", 0x1001, 0x37, 0xFFFFFFFF)
    content = struct.pack("<I", 100_000) + empty * 100_000
    attribute = struct.pack("<BHHI", 1, 0x9003, 6, len(content)) + content + b"\0\0"
    started = time.process_time()

    read(b"\x78\x9f\x3e\x22\1\0" + attribute)

    assert time.process_time() - started < 10
