"""The values of a mail's header: encoded words, raw bytes in any encoding, and parameters in pieces."""

from __future__ import annotations

import binascii
import re
from email.message import Message
from typing import Final

from emberq.pipeline.extract.builder import squeeze
from emberq.pipeline.extract.text.charsets import decode_declared, find_codec, is_single_byte
from emberq.pipeline.extract.text.decode import decode

#: An encoded word of RFC 2047; its text may have spaces and question marks, though it should not.
_WORD: Final = re.compile(r"=\?([^?\s*]{1,80})(?:\*[^?\s]{0,80})?\?([BbQq])\?((?:[^?]|\?(?!=))*+)\?=")

#: Most characters of a value whose encoded words are decoded; the longest lists of recipients have fewer.
_MAX_ENCODED: Final = 64 * 1024

_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")

#: Labels that many programs declare for any text; the encoding is detected.
_ANY: Final = frozenset(("us-ascii", "ascii", "iso-8859-1", "latin1", "utf-8", "utf8"))

#: Characters that are not ASCII, for each damaged one, in a text in its declared encoding.
_DAMAGE: Final = 10


def words(value: str, *, charset: str = "") -> str:
    """Return the value of a field on one line, with its encoded words decoded.

    Args:
        value: The value as the parser gives it: bytes that are not ASCII are lone surrogates.
        charset: The encoding of the mail's text, in which raw bytes are read if they are not UTF-8.
    """
    written = squeeze(_raw(value, charset))
    # Without its end no encoded word is looked for: a search from each beginning would take quadratic time.
    end = written.rfind("?=") + len("?=")
    if end < len("?=") or len(written) > _MAX_ENCODED:
        return written
    pieces: list[str] = []
    pending, pending_charset, at = b"", "", 0
    for word in _WORD.finditer(written, 0, end):
        between = written[at : word.start()]
        label = word[1].lower()
        # White space between encoded words is none, and a character may be cut between them.
        if between.strip() or label != pending_charset or not pending:
            pieces.append(decode_text(pending, pending_charset) if pending else "")
            pieces.append(between if between.strip() or not pending else "")
            pending = b""
        pending += _decoded_word(word[2], word[3])
        pending_charset, at = label, word.end()
    pieces += (decode_text(pending, pending_charset) if pending else "", written[at:])
    return squeeze("".join(pieces))


def _raw(value: str, charset: str) -> str:
    """Return a value whose bytes that are not ASCII are read as UTF-8, or as the mail's own encoding."""
    if value.isascii():
        return value
    data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return decode_text(data, charset)


def _decoded_word(encoding: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    if encoding in "Qq":
        return binascii.a2b_qp(data, header=True)
    return unbase64(data)


def unbase64(data: bytes) -> bytes:
    """Decode base64 that may be damaged: without padding, padded in the middle, with other characters."""
    packed = data.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(packed, strict_mode=True)
    except binascii.Error:
        pieces = (_NOT_BASE64.sub(b"", piece) for piece in packed.split(b"="))
    # One character more than four holds only six bits: no byte.
    whole = (piece[: len(piece) - 1] if len(piece) % 4 == 1 else piece for piece in pieces)
    return b"".join(binascii.a2b_base64(piece + b"=" * (-len(piece) % 4)) for piece in whole if piece)


def decode_text(data: bytes, charset: str) -> str:
    """Decode the text of a mail, whose declared encoding may be missing, unknown or wrong.

    UTF-8 is recognised whatever was declared.
    """
    codec = find_codec(charset)
    if codec is None or charset.strip().lower() in _ANY or (is_single_byte(codec) and _is_utf8(data)):
        return decode(data)
    text = decode_declared(data, codec)
    if text is not None:
        return text
    # A few damaged characters do not make another encoding likely.
    text = data.decode(codec, "replace")
    return decode(data) if text.count("\ufffd") * _DAMAGE > len(_NOT_ASCII.findall(text)) else text


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def parameter(part: Message, name: str, header: str = "Content-Type") -> str:
    """Return a parameter of a field, put together from its pieces (RFC 2231); an empty text if there is none.

    The standard library's own functions would decode it with whatever codec it names.
    """
    try:
        value = part.get_param(name, "", header)
    except (TypeError, ValueError):  # the numbers of its pieces make no sense
        return ""
    if isinstance(value, tuple):
        charset, _language, text = value
        try:
            data = text.encode("latin-1", "surrogateescape")
        except UnicodeEncodeError:
            data = text.encode("utf-8", "replace")
        return decode_text(data, charset or "")
    return str(value)


def filename(part: Message, *, charset: str = "") -> str:
    """Return the name of an attachment; an empty text if it has none."""
    name = parameter(part, "filename", "Content-Disposition") or parameter(part, "name")
    return words(name, charset=charset)
