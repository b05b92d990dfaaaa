"""Mail: the subject, sender, recipients and date, then each part in order, with attachments."""

from __future__ import annotations

import email.errors
import email.header
from collections.abc import Callable, Iterator, Sequence
from email.feedparser import BytesFeedParser
from email.message import Message
from email.policy import Compat32
from typing import BinaryIO, Final, NamedTuple

from emberq.errors import CorruptFile, FileTooLarge
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.charsets import decode_declared
from emberq.pipeline.extract.decode import decode
from emberq.pipeline.extract.markup import write_html
from emberq.pipeline.extract.text import write_text

_SHOWN: Final = ("From", "To", "Cc", "Date")

#: Most levels of messages inside messages; deeper messages are left out.
_MAX_DEPTH: Final = 3

#: Most levels of parts inside parts. The standard library compares each line with the borders of all levels.
_MAX_PARTS_DEPTH: Final = 40

#: Most parts. A part needs several kilobytes of memory; digests of mailing lists have a few hundred.
_MAX_PARTS: Final = 10_000

#: Bytes that are parsed at once.
_CHUNK: Final = 64 * 1024

#: Most characters of a header field of a part. Real fields have a few hundred, and the standard library
#: parses them in quadratic time.
_MAX_PART_FIELD: Final = 4096

#: Most characters of a header field whose encoded words are decoded, for the same reason.
_MAX_ENCODED: Final = 64 * 1024


class _Policy(Compat32):
    """The older policy, which accepts malformed headers, with a limit on the header fields of parts."""

    def header_source_parse(self, sourcelines: Sequence[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(list(sourcelines))
        return name, value[:_MAX_PART_FIELD] if name.lower().startswith("content-") else value


class _Parser(BytesFeedParser):
    """The standard library's parser, with limits on its parts."""

    def __init__(self) -> None:
        self._count = 0
        super().__init__(policy=_Policy())

    def _new_message(self) -> None:
        self._count += 1
        if len(self._msgstack) > _MAX_PARTS_DEPTH:  # type: ignore[attr-defined]
            raise CorruptFile("The message has parts nested too deeply.")
        if self._count > _MAX_PARTS:
            raise FileTooLarge(f"The message has more than {_MAX_PARTS:,} parts.", hint="Split the message.")
        super()._new_message()  # type: ignore[misc]


class _Piece(NamedTuple):
    """The header of a message, or one of its parts."""

    message: Message
    is_head: bool


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a message; its pages are the parts, and the first page also has the header.

    Returns:
        The number of parts.

    Raises:
        CorruptFile: If its parts are nested too deeply.
        FileTooLarge: If it has too many parts.
    """
    parser = _Parser()
    while chunk := stream.read(_CHUNK):
        parser.feed(chunk)
    pieces = [*_message(parser.close(), 1)]
    total = sum(not piece.is_head for piece in pieces)
    number = 1
    for message, is_head in pieces:
        build.page = number
        if is_head:
            _write_head(message, build)
            continue
        _write_part(message, build)
        progress(number, total)
        number += 1
    return max(total, 1)


def _message(message: Message, depth: int) -> Iterator[_Piece]:
    yield _Piece(message, is_head=True)
    yield from _parts(message, depth)


def _parts(part: Message, depth: int) -> Iterator[_Piece]:
    """Yield the parts that a mail program shows; of alternatives, the last one with text."""
    kind = part.get_content_type()
    # Of a part without parts, `get_payload` would decode the text with whatever codec the part names.
    payload = part.get_payload() if part.is_multipart() else []
    children = [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []
    if not children:
        yield _Piece(part, is_head=False)
    elif kind == "message/rfc822":
        if depth < _MAX_DEPTH:
            yield from _message(children[0], depth + 1)
    else:
        if kind == "multipart/alternative":
            readable = [child for child in children if child.get_content_maintype() in {"text", "multipart"}]
            children = readable[-1:] or children
        for child in children:
            yield from _parts(child, depth)


def _write_head(message: Message, build: DocumentBuilder) -> None:
    build.heading(_header(message, "Subject"), 1)
    lines = ((name, _header(message, name)) for name in _SHOWN)
    build.paragraph("\n".join(f"{name}: {value}" for name, value in lines if value))


def _header(message: Message, name: str) -> str:
    return _words(message.get(name, ""))


def _words(value: object) -> str:
    """Return a header's value with its encoded words decoded."""
    written = squeeze(str(value))
    if len(written) > _MAX_ENCODED:
        return written
    # From each beginning of an encoded word the standard library looks for its end; the last end comes first.
    end = written.rfind("?=") + len("?=")
    try:
        pieces = email.header.decode_header(written[:end])
        decoded = "".join(_piece(text, charset) for text, charset in pieces)
        return squeeze(decoded + written[end:])
    except (email.errors.HeaderParseError, ValueError):
        return written


def _piece(text: bytes | str, charset: str | None) -> str:
    if isinstance(text, str):
        return text
    return _decoded(text, charset or "ascii")


def _decoded(data: bytes, charset: str) -> str:
    text = decode_declared(data, charset)
    return decode(data) if text is None else text


def _parameter(part: Message, name: str, header: str = "Content-Type") -> str:
    """Return a parameter of a header field; an empty text if there is none.

    The standard library's own functions would decode it with whatever codec it names.
    """
    try:
        value = part.get_param(name, "", header)
    except (TypeError, ValueError):  # the numbers of its pieces make no sense
        return ""
    if isinstance(value, tuple):
        charset, _language, text = value
        return _decoded(text.encode("raw-unicode-escape"), charset or "ascii")
    return str(value)


def _write_part(part: Message, build: DocumentBuilder) -> None:
    kind = part.get_content_type()
    name = _words(
        _parameter(part, "filename", "Content-Disposition") or _parameter(part, "name"),
    )
    charset = _parameter(part, "charset").lower()
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    if name or part.get_content_disposition() == "attachment" or part.get_content_maintype() != "text":
        if data or name:
            build.attach(data, name)
    elif kind == "text/html":
        write_html(data, build, charset=charset)
    else:
        write_text(_text(data, charset), build)


def _text(data: bytes, charset: str) -> str:
    # Many senders declare ASCII or latin-1 for any text, so `decode` finds the encoding.
    if charset in {"", "us-ascii", "ascii", "iso-8859-1", "utf-8"}:
        return decode(data)
    return _decoded(data, charset)
