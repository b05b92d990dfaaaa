"""Mailboxes: several mails in one file, each with a line `From sender date` before it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.kinds.mailkind import is_separator
from emberq.pipeline.extract.mail.mail import MailWriter
from emberq.pipeline.extract.mail.mailparser import parse

#: A line of a mail that would look like a separator, as the formats mboxo and mboxrd write it.
_QUOTED: Final = re.compile(rb"^>(>*From )", re.MULTILINE)
_FIELD: Final = re.compile(rb"[!-9;-~]+:")
#: The length that the formats mboxcl and mboxcl2 note in each mail.
_LENGTH: Final = re.compile(rb"^content-length:[ \t]*(\d{1,10})[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_END_OF_HEADER: Final = re.compile(rb"\r?\n\r?\n")

#: The mail that some programs put first, with their own data.
_INTERNAL: Final = re.compile(
    rb"^subject: don't delete this message -- folder internal data", re.MULTILINE | re.IGNORECASE
)

#: Most bytes of a line that are read at once.
_LINE: Final = 1 << 20


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a mailbox; its pages are the mails, each of which has its subject as a heading.

    Returns:
        The number of mails.

    Raises:
        FileTooLarge: If a mail has too many parts.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    done = number = 0
    for mail in _mails(stream, size):
        done += len(mail)
        if _INTERNAL.search(mail, 0, _end_of_header(mail)):
            continue
        number += 1
        build.page = number
        try:
            message = parse(io.BytesIO(_QUOTED.sub(rb"\1", mail) if b">From " in mail else mail))
            MailWriter(build, _ignore, 1, counts=False).write(message, untitled="(no subject)")
        except CorruptFile:
            build.warn(WarningCode.PART_UNREADABLE, f"mail {number}")
        progress(min(done, size), size)
    return max(number, 1)


def _mails(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the mails, with the line before each."""
    lines: list[bytes] = []
    at = body = 0
    line = stream.readline(_LINE)
    while line:
        following = stream.readline(_LINE)
        if at >= body and is_separator(line) and _FIELD.match(following):
            if lines:
                yield b"".join(lines)
            lines = []
            body = 0
        lines.append(line)
        at += len(line)
        if not body and not line.strip():
            body = max(at, _declared_end(b"".join(lines), at, stream, size))
        line = following
    yield b"".join(lines)


def _declared_end(header: bytes, at: int, stream: BinaryIO, size: int) -> int:
    """Return where a mail ends by its header; 0 if neither another mail nor the end of the file is there."""
    declared = _LENGTH.search(header)
    end = at + int(declared[1]) if declared else 0
    if not at < end <= size:
        return 0
    position = stream.tell()
    stream.seek(end)
    behind = stream.read(len(b"\r\n\r\nFrom ")).lstrip(b"\r\n")
    stream.seek(position)
    return end if not behind or behind.startswith(b"From") else 0


def _end_of_header(mail: bytes) -> int:
    end = _END_OF_HEADER.search(mail)
    return end.start() if end else len(mail)


def _ignore(_done: int, _total: int) -> None:
    return None
