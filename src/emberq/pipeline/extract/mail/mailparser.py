"""The parts of a mail: the standard library's parser, with limits, and the decoding of parts."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from email.feedparser import BytesFeedParser
from email.message import Message
from email.policy import Compat32
from typing import Any, BinaryIO, Final, cast

from emberq.errors import CorruptFile, FileTooLarge
from emberq.pipeline.extract.kinds.mailkind import mend_header
from emberq.pipeline.extract.mail.mailheader import parameter, unbase64

#: Most levels of parts inside parts. The standard library compares each line with the borders of all levels.
_MAX_PARTS_DEPTH: Final = 40

#: Most levels of messages inside messages; deeper messages are left out.
MAX_DEPTH: Final = 3

#: Most parts. A part needs several kilobytes of memory; digests of mailing lists have a few hundred.
_MAX_PARTS: Final = 10_000

#: Bytes that are parsed at once.
_CHUNK: Final = 64 * 1024

#: Most characters of a header field of a part. Real fields have a few hundred, and the standard library
#: parses them in quadratic time.
_MAX_PART_FIELD: Final = 4096

#: The kinds of messages that are parsed; of others, such as the status of a delivery, the text is read.
MESSAGES: Final = frozenset(("message/rfc822", "message/global", "message/news"))

_ENCODED: Final = frozenset(("base64", "quoted-printable", "uuencode", "x-uuencode", "uue", "x-uue"))
_TOKEN: Final = re.compile(r"[A-Za-z0-9-]+")

#: The share of spaces from which on a text is not base64, whatever its header says.
_SPACES: Final = 0.04

#: A character that is not in base64, and a line of it.
_ODD: Final = re.compile(rb"[^A-Za-z0-9+/=\r\n]")
_BASE64_LINE: Final = re.compile(rb"^[A-Za-z0-9+/]{40,}={0,2}\r?$", re.MULTILINE)

#: A line that may be a border between parts, with the beginning of the header of a part behind it.
_BORDER: Final = re.compile(r"^--([^\r\n]{1,200})\r?\n(?=Content-[A-Za-z-]+:)", re.MULTILINE | re.IGNORECASE)


class _Policy(Compat32):
    """The older policy, which accepts malformed headers, with a limit on the header fields of parts."""

    def header_source_parse(self, sourcelines: Sequence[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(list(sourcelines))
        return name, value[:_MAX_PART_FIELD] if name.lower().startswith("content-") else value

    def header_fetch_parse(self, _name: str, value: str) -> str:
        # Bytes that are not ASCII stay lone surrogates here; see `mailheader.words`.
        return value


class Part(Message):
    """A part of a mail, or the whole mail."""

    @property
    def kind(self) -> str:
        """Its media type, in small letters."""
        return super().get_content_type()

    @property
    def parts(self) -> list[Part]:
        """The parts in it."""
        # Of a part without parts, `get_payload` would decode the text with whatever codec the part names.
        payload: Any = self.get_payload() if self.is_multipart() else []
        return [part for part in payload if isinstance(part, Part)]

    def get_content_type(self) -> str:
        """Return what the parser asks for: plain text, unless there is a message to parse in it."""
        kind = self.kind
        is_text = kind.startswith("message/") and (kind not in MESSAGES or self.transfer in _ENCODED)
        return "text/plain" if is_text else kind

    @property
    def transfer(self) -> str:
        """How its text is encoded for transfer, in small letters."""
        found = _TOKEN.search(str(self.get("Content-Transfer-Encoding", "")))
        return found[0].lower() if found else ""

    @property
    def charset(self) -> str:
        """The encoding that it declares; may be empty."""
        return parameter(self, "charset")

    @property
    def disposition(self) -> str:
        """`attachment`, `inline`, another word, or nothing."""
        return str(self.get("Content-Disposition", "")).partition(";")[0].strip().lower()

    def raw(self) -> bytes:
        """Return its text as it stands in the mail, not decoded."""
        payload: Any = self._payload  # type: ignore[attr-defined]
        return payload.encode("ascii", "surrogateescape") if isinstance(payload, str) else b""

    def content(self) -> bytes:
        """Return its bytes, decoded."""
        data = self.raw()
        match self.transfer:
            case "base64":
                return _unbase64_body(data)
            case "quoted-printable":
                return binascii.a2b_qp(data)
            case transfer if transfer in _ENCODED:
                return unuuencode(data)
        return data


class _Parser(BytesFeedParser):
    """The standard library's parser, with limits on its parts."""

    def __init__(self) -> None:
        self._count = 0
        super().__init__(_factory=Part, policy=_Policy())

    def _new_message(self) -> None:
        self._count += 1
        if len(self._msgstack) > _MAX_PARTS_DEPTH:  # type: ignore[attr-defined]
            raise CorruptFile("The message has parts nested too deeply.")
        if self._count > _MAX_PARTS:
            raise FileTooLarge(f"The message has more than {_MAX_PARTS:,} parts.", hint="Split the message.")
        super()._new_message()  # type: ignore[misc]


def parse(stream: BinaryIO) -> Part:
    """Parse a mail, or a part with its header.

    Raises:
        CorruptFile: If its parts are nested too deeply.
        FileTooLarge: If it has too many parts.
    """
    parser = _Parser()
    parser.feed(mend_header(stream.read(_CHUNK)))
    while chunk := stream.read(_CHUNK):
        parser.feed(chunk)
    return cast("Part", parser.close())


def find_border(part: Part) -> str | None:
    """Return the border between the parts of a part whose header does not name the right one."""
    payload: Any = part._payload  # type: ignore[attr-defined]  # noqa: SLF001
    found = _BORDER.search(payload) if isinstance(payload, str) else None
    return found[1].rstrip() if found else None


def _unbase64_body(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data.translate(None, b" \t\r\n"), strict_mode=True)
    except binascii.Error:
        pass
    if data.strip().count(b" ") > _SPACES * len(data):
        return data
    # A mailing list may have appended its own lines; other odd lines are damage.
    odd = _ODD.search(data)
    start = data.rfind(b"\n", 0, odd.start()) + 1 if odd else 0
    if start and not _BASE64_LINE.search(data, start):
        return unbase64(data[:start]) + b"\n" + data[start:]
    return unbase64(data)


def unuuencode(data: bytes) -> bytes:
    """Decode uuencoded lines; lines that are none are left out."""
    decoded: list[bytes] = []
    for line in data.splitlines():
        if line.startswith(b"begin "):
            decoded.clear()
        elif line.strip() == b"end":
            break
        else:
            try:
                decoded.append(binascii.a2b_uu(line))
            except binascii.Error:
                # Some programs write more than the length of the line says.
                size = ((line[0] - 32) & 63) if line else 0
                try:
                    decoded.append(binascii.a2b_uu(line[: -(-size * 4 // 3) + 1]))
                except binascii.Error:
                    continue
    return b"".join(decoded)
