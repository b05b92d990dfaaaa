"""Detects mail, mailboxes and web archives by their header, whatever the file's name."""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from emberq.pipeline.extract import media

#: A name of a field has any printable character but the colon; RFC 5322, section 2.2.
_FIELD: Final = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")

#: The line before each mail in a mailbox: a sender and a time of day.
_FROM_LINE: Final = re.compile(rb"From [^\r\n]{0,300}?\d{1,2}:\d\d[^\r\n]{0,100}")

#: The first line of a mail that Apple Mail saved: the length of the mail in bytes.
_LENGTH: Final = re.compile(rb"\d{1,10}[ \t]*\r?\n")

_BLANKS: Final = b"\xef\xbb\xbf\r\n"

#: The fields by which a mail is told; those in the second group are in no other text.
_COMMON: Final = frozenset(
    (
        *(
            b"bcc",
            b"cc",
            b"content-type",
            b"date",
            b"from",
            b"importance",
            b"keywords",
            b"list-id",
            b"organization",
        ),
        *(b"priority", b"reply-to", b"sender", b"subject", b"to"),
    )
)
_TECHNICAL: Final = frozenset(
    (
        *(b"arc-seal", b"authentication-results", b"content-transfer-encoding", b"delivered-to"),
        *(
            b"dkim-signature",
            b"envelope-to",
            b"in-reply-to",
            b"list-unsubscribe",
            b"message-id",
            b"mime-version",
        ),
        *(b"newsgroups", b"received", b"received-spf", b"references", b"resent-from", b"return-path"),
        *(
            b"thread-index",
            b"thread-topic",
            b"user-agent",
            b"x-mailer",
            b"x-mozilla-status",
            b"x-originating-ip",
        ),
        *(b"x-priority", b"x-received", b"x-unsent"),
    )
)
_LEAST_FIELDS: Final = 3
_LEAST_IN_BROKEN: Final = 4

#: Most lines in a header that are no fields; with more of them it is a text.
_MOST_BROKEN: Final = 5

#: Most lines of a header that are looked at.
_MOST_LINES: Final = 5_000

#: Fields of a mail that has been sent, or has a recipient; a saved web page has none of them.
_SENT: Final = frozenset(
    (b"bcc", b"cc", b"delivered-to", b"received", b"reply-to", b"return-path", b"to", b"x-unsent")
)
_WEB_ARCHIVE: Final = re.compile(rb"multipart/related|text/html|application/xhtml", re.IGNORECASE)
_SAVED_BY: Final = re.compile(rb"<?[\"']?saved by ", re.IGNORECASE)

#: Most bytes of the line before a mail.
_LONGEST_LINE: Final = 400

#: Bytes that are read at once to find a second mail.
_CHUNK: Final = 1 << 20


def mail_kind(head: bytes, stream: BinaryIO) -> str | None:
    """Return the type of a file that begins with the header of a mail; None if it does not.

    Args:
        head: The first bytes.
        stream: The open file, after `head`; it is read on to see whether a second mail follows.
    """
    text = head.lstrip(_BLANKS)
    separator = _FROM_LINE.match(text)
    if text.startswith(b"From "):
        text = text.partition(b"\n")[2]
    elif length := _LENGTH.match(text):
        text = text[length.end() :]
    fields, is_whole = _header(text)
    if separator and len(fields) > 1 and fields.keys() & (_COMMON | _TECHNICAL):
        return media.MBOX if _has_second(head, stream) else media.EML
    if not _is_mail(fields, is_whole=is_whole):
        return None
    return media.MHTML if _is_web_archive(fields) else media.EML


def is_separator(line: bytes) -> bool:
    """Return whether a line may be the one before a mail in a mailbox."""
    return line.startswith(b"From ") and _FROM_LINE.match(line) is not None


def mend_header(head: bytes) -> bytes:
    """Return the beginning of a mail with its header as the parser needs it.

    A line that is no field, such as the rest of a broken line, would end the header for the parser. If a
    field follows it, it becomes a part of the field before it. Names lose the spaces behind them.
    """
    lines = head.split(b"\n")
    last = 0
    bad: list[int] = []
    for number, line in enumerate(lines[:_MOST_LINES]):
        if not line.strip():
            break
        if field := _FIELD.match(line):
            last = number
            lines[number] = field[1] + b":" + line[field.end() :]
        elif number and line[:1] not in b" \t":
            bad.append(number)
    for number in bad if len(bad) <= _MOST_BROKEN else ():
        if number < last:
            lines[number] = b" " + lines[number]
    return b"\n".join(lines)


def _header(text: bytes) -> tuple[dict[bytes, bytes], bool]:
    """Return the fields of the header with which a text begins, and whether nothing else stands in it.

    Names are in small letters; of a field that stands there twice, the first value counts.
    """
    fields: dict[bytes, bytes] = {}
    name = b""
    broken = 0
    for number, line in enumerate(text.splitlines()):
        if not line.strip() or number > _MOST_LINES:
            break
        field = _FIELD.match(line)
        if line[:1] in b" \t":
            if name:
                fields[name] += line
        elif field:
            name = field[1].lower()
            fields.setdefault(name, line[field.end() :])
        # The line before each mail in a mailbox may be quoted and stand in the middle of a header.
        elif not line.startswith(b">From "):
            broken += 1
            if not number or broken > _MOST_BROKEN:
                return {}, False
    return fields, not broken


def _is_mail(fields: dict[bytes, bytes], *, is_whole: bool) -> bool:
    kind = fields.get(b"content-type", b"").lower()
    if (b"mime-version" in fields and b"/" in kind) or (b"multipart/" in kind and b"boundary" in kind):
        return True
    known = fields.keys() & (_COMMON | _TECHNICAL)
    # A text may have lines that look like fields; with other lines between them, it takes more to be mail.
    telling = _TECHNICAL if not is_whole else _TECHNICAL | {b"from", b"sender"}
    return len(known) >= (_LEAST_FIELDS if is_whole else _LEAST_IN_BROKEN) and bool(known & telling)


def _is_web_archive(fields: dict[bytes, bytes]) -> bool:
    if b"snapshot-content-location" in fields:
        return True
    if not _WEB_ARCHIVE.match(fields.get(b"content-type", b"").strip()) or fields.keys() & _SENT:
        return False
    return b"from" not in fields or _SAVED_BY.match(fields[b"from"].strip()) is not None


def _has_second(head: bytes, stream: BinaryIO) -> bool:
    """Return whether a mailbox has more than one mail."""
    stream.seek(len(head))
    block, at = head, len(b"From ")
    while block:
        while (at := block.find(b"\nFrom ", at)) >= 0:
            if is_separator(block[at + 1 : at + 1 + _LONGEST_LINE]):
                return True
            at += 1
        rest = block[-_LONGEST_LINE:]
        more = stream.read(_CHUNK)
        block, at = rest + more if more else b"", 0
    return False
