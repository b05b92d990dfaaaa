"""Hostile mailboxes, web archives, calendars, signed mail, and items of Outlook."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from functools import partial

from tests.harness.outlook import OutlookItem, make_msg, make_tnef, pack_rtf
from tests.hostile.kinds import HostileFile

_SEPARATOR = b"From a@example.org Mon Mar  2 10:00:00 2026\n"
_HEAD = b"From: a@example.org\nTo: b@example.org\nSubject: test\nMIME-Version: 1.0\n"
_EVENT = b"BEGIN:VEVENT\nSUMMARY:a\nDTSTART:20260302T100000Z\nEND:VEVENT\n"


def mailbox_files() -> Iterator[HostileFile]:
    """Return the files."""
    mail = _SEPARATOR + _HEAD
    yield HostileFile("mails.mbox", lambda: (mail + b"\nwords\n\n") * 20_000)
    yield HostileFile("lengths.mbox", lambda: (mail + b"Content-Length: 90\n\nwords\n\n") * 20_000)
    yield HostileFile("separators.mbox", lambda: mail + b"\n" + _SEPARATOR * 60_000)
    yield HostileFile(
        "quoted.mbox", lambda: mail + b"\n" + b">" * 500_000 + b"From \n" + b">From a\n" * 60_000
    )
    yield HostileFile("length.emlx", lambda: b"9999999999\n" + _HEAD + b"\nwords")
    yield HostileFile("pages.mhtml", lambda: _parts(b"text/html", 9_000, head=b"MIME-Version: 1.0\n"))
    yield HostileFile(
        "calendars.eml", lambda: _parts(b"text/calendar", 9_000, b"BEGIN:VCALENDAR\n%s" % _EVENT)
    )
    yield HostileFile("events.ics", lambda: b"BEGIN:VCALENDAR\n" + _EVENT * 40_000)
    yield HostileFile("begins.ics", lambda: b"BEGIN:VCALENDAR\n" + b"BEGIN:VEVENT\nBEGIN:X\n" * 100_000)
    yield HostileFile("folds.ics", lambda: b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:" + b"a\n " * 400_000)
    yield HostileFile(
        "people.ics", lambda: b"BEGIN:VCALENDAR\nBEGIN:VEVENT\n" + b"ATTENDEE;CN=a:b\n" * 100_000
    )
    yield HostileFile(
        "quotes.ics", lambda: b'BEGIN:VCALENDAR\nBEGIN:VEVENT\nATTENDEE;CN="' + b'";"' * 300_000
    )
    yield HostileFile("alternatives.eml", lambda: _alternatives(3_000))
    yield HostileFile("armour.eml", lambda: _HEAD + b"\n" + b"-----BEGIN PGP MESSAGE-----\n" * 60_000)
    yield HostileFile("uu-begins.eml", lambda: _HEAD + b"\n" + b"begin 644 a\n!!\n" * 60_000 + b"end\n")
    yield HostileFile(
        "flowed.eml", lambda: _HEAD + b"Content-Type: text/plain; format=flowed\n\n" + b">a \n" * 300_000
    )
    yield HostileFile("base64-odd.eml", lambda: _typed(b"base64", b"YQ==\n" * 100_000 + b"! !\n" * 90_000))
    yield HostileFile(
        "borders.eml", lambda: _HEAD + b"Content-Type: multipart/mixed\n\n" + b"--a\nContent-A:\n" * 50_000
    )
    for name, data in (("deep", b"\x30\x80" * 200_000), ("wide", b"\x30\x80" + b"\x04\x00" * 300_000)):
        yield HostileFile(f"signed-{name}.eml", partial(_signed, data))
    yield HostileFile("long-length.eml", lambda: _signed(b"\x30\xff" + b"\xff" * 200_000))
    yield HostileFile(
        "values.tnef", lambda: _tnef(0x9003, 100_000, struct.pack("<HHI", 0x1001, 0x37, 0xFFFFFFFF))
    )
    yield HostileFile("rows.tnef", lambda: _tnef(0x9004, 0xFFFFFFFF, bytes(1_000_000)))
    yield HostileFile("attachments.tnef", lambda: _TNEF + struct.pack("<BHHIH", 2, 0x9002, 6, 0, 0) * 90_000)
    yield HostileFile("nested.tnef", lambda: make_tnef(_nested(60)))
    yield HostileFile("nested.msg", lambda: make_msg(_nested(15)))
    yield HostileFile("recipients.msg", lambda: make_msg(OutlookItem({0x37: "a"}, ({0x3001: "b"},) * 4_000)))
    yield HostileFile("rtf-bomb.msg", lambda: make_msg(OutlookItem({0x1009: pack_rtf(b"a" * 4_000_000)})))
    yield HostileFile("rtf-size.tnef", lambda: make_tnef(OutlookItem({0x1009: _endless_rtf()})))


_TNEF = b"\x78\x9f\x3e\x22\1\0"


def _parts(kind: bytes, count: int, body: bytes = b"<p>words", head: bytes = _HEAD) -> bytes:
    parts = b"".join(b"--b\nContent-Type: %s\n\n%s %d\n" % (kind, body, number) for number in range(count))
    return head + b"Content-Type: multipart/related; boundary=b\n\n" + parts + b"--b--\n"


def _alternatives(count: int) -> bytes:
    plain = b"--b\nContent-Type: text/plain\n\n" + b"word " * 20_000 + b"\n"
    empty = b"--b\nContent-Type: text/html\n\n<p></p>\n"
    return _HEAD + b"Content-Type: multipart/alternative; boundary=b\n\n" + plain + empty * count + b"--b--\n"


def _typed(transfer: bytes, body: bytes) -> bytes:
    return _HEAD + b"Content-Transfer-Encoding: " + transfer + b"\n\n" + body


def _signed(data: bytes) -> bytes:
    head = b"Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n"
    return _HEAD + head + base64.encodebytes(data)


def _tnef(identity: int, count: int, content: bytes) -> bytes:
    data = struct.pack("<I", count) + content * (count if count < 1_000_000 else 1)
    return _TNEF + struct.pack("<BHHI", 1, identity, 6, len(data)) + data + b"\0\0"


def _nested(depth: int) -> OutlookItem:
    item = OutlookItem({0x37: "core", 0x1000: "words"})
    for level in range(depth):
        item = OutlookItem({0x37: f"level {level}"}, attachments=({0x3001: "inner", 0x3701: item},))
    return item


def _endless_rtf() -> bytes:
    """Return compressed RTF that says it is 4 GB long and refers to itself only."""
    tokens = b"".join(struct.pack(">H", 0x0CF | 0xF) for _ in range(8))
    packed = (b"\xff" + tokens) * 100_000
    return struct.pack("<II4sI", len(packed) + 12, 0xFFFFFFFF, b"LZFu", 0) + packed
