"""Mail: the subject, sender, recipients and date, then each part in order, with attachments."""

from __future__ import annotations

import email
import email.errors
import email.header
from collections.abc import Callable, Iterator, Sequence
from email.message import Message
from email.policy import Compat32
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from emberq.errors import CorruptFile
from emberq.pipeline.document import Document
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.decode import decode
from emberq.pipeline.extract.markup import write_html
from emberq.pipeline.extract.text import write_text

#: Takes an attachment's bytes and name; returns its document, or None if it cannot be read.
_Attachment: TypeAlias = Callable[[bytes, str], Document | None]

_SHOWN: Final = ("From", "To", "Cc", "Date")

#: Most levels of messages inside messages; deeper messages are left out.
_MAX_DEPTH: Final = 3

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


class _Piece(NamedTuple):
    """The header of a message, or one of its parts."""

    message: Message
    is_head: bool


def read(
    stream: BinaryIO,
    build: DocumentBuilder,
    progress: Callable[[int, int], None],
    *,
    attachment: _Attachment,
) -> int:
    """Read a message; its pages are the parts, and the first page also has the header.

    Returns:
        The number of parts.

    Raises:
        CorruptFile: If its parts are nested too deeply.
    """
    try:
        pieces = [*_message(email.message_from_binary_file(stream, policy=_Policy()), 1)]
    except RecursionError as exc:
        raise CorruptFile("The message has parts nested too deeply.") from exc
    total = sum(not piece.is_head for piece in pieces)
    number = 1
    for message, is_head in pieces:
        build.page = number
        if is_head:
            _write_head(message, build)
            continue
        _write_part(message, build, attachment)
        progress(number, total)
        number += 1
    return max(total, 1)


def _message(message: Message, depth: int) -> Iterator[_Piece]:
    yield _Piece(message, is_head=True)
    yield from _parts(message, depth)


def _parts(part: Message, depth: int) -> Iterator[_Piece]:
    """Yield the parts that a mail program shows; of alternatives, the last one with text."""
    kind = part.get_content_type()
    payload = part.get_payload()
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
    written = str(value)
    if len(written) > _MAX_ENCODED:
        return squeeze(written)
    try:
        pieces = email.header.decode_header(written)
        return squeeze("".join(_piece(text, charset) for text, charset in pieces))
    except (email.errors.HeaderParseError, ValueError):
        return squeeze(written)


def _piece(text: bytes | str, charset: str | None) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode(charset or "ascii")
    except (LookupError, ValueError):
        return decode(text)


def _write_part(part: Message, build: DocumentBuilder, attachment: _Attachment) -> None:
    kind = part.get_content_type()
    name = _words(part.get_filename() or "")
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    if name or part.get_content_disposition() == "attachment" or part.get_content_maintype() != "text":
        _attach(data, name, build, attachment)
    elif kind == "text/html":
        write_html(data, build, charset=part.get_content_charset())
    else:
        write_text(_text(data, part.get_content_charset()), build)


def _text(data: bytes, charset: str | None) -> str:
    # Many senders declare ASCII or latin-1 for any text, so `decode` finds the encoding.
    if charset and charset.lower() not in {"us-ascii", "ascii", "iso-8859-1", "utf-8"}:
        try:
            return data.decode(charset)
        except (LookupError, ValueError):
            pass
    return decode(data)


def _attach(data: bytes, name: str, build: DocumentBuilder, attachment: _Attachment) -> None:
    document = attachment(data, name) if data else None
    if document:
        build.heading(name, 2)
        build.extend(document.text, document.segments, page=build.page)
    elif name:
        build.paragraph(f"Attachment: {name}")
