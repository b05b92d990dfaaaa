"""The `Content-Disposition` of a part of a form: its names, as browsers and other clients write them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

#: One parameter: its name, and its value in quotes or up to the next semicolon. Each character of a value is
#: read once.
_PARAMETER: Final = re.compile(
    rb'\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"][^;]*|))\s*(?:;|$)', re.DOTALL
)
#: A quoted value that ends with a backslash: not the quote is escaped, the name has the backslash.
_LAST: Final = re.compile(rb'\s*([^\s=;"]+)\s*=\s*"(.*)"\s*$', re.DOTALL)
#: What browsers and curl put for the characters that would end a name; they encode nothing else.
_ENCODED: Final = re.compile(rb"%(22|0[aAdD])")
_ESCAPED: Final = re.compile(rb'\\(["\\])')
#: A path of Windows, which some programs send in place of a name.
_WINDOWS_PATH: Final = re.compile(rb"[A-Za-z]:\\|\\\\")
#: The character sets of `name*=`; RFC 8187 knows the first, RFC 5987 the second too.
_CHARSETS: Final = {b"utf-8": "utf-8", b"iso-8859-1": "latin-1"}


def part_names(header: bytes) -> dict[str, bytes]:
    r"""Return the parameters of a part's `Content-Disposition`, decoded to the UTF-8 that they stand for.

    Of `filename` and `filename*` (RFC 8187) the second is the more exact one and is preferred. In a value in
    quotes `%22`, `%0A` and `%0D` are a quote and line breaks, as browsers and curl write them, and `\"` is a
    quote, as older clients do.

    Args:
        header: The header's value.

    Returns:
        The values by the parameter's name in lower case, without `*`; bytes that are not UTF-8 are as sent.
    """
    found: dict[str, bytes] = {}
    extended: dict[str, bytes] = {}
    position = header.find(b";") + 1
    while position and (match := _PARAMETER.match(header, position) or _LAST.match(header, position)):
        name, quoted, *token = match.groups()
        key = name.decode("latin-1").lower()
        if not key.endswith("*"):
            found.setdefault(key, _of_token(token[0]) if quoted is None else _of_quoted(quoted))
        elif (value := _of_extended(token[0] if quoted is None else quoted)) is not None:
            extended.setdefault(key[:-1], value)
        position = match.end() if match.end() < len(header) else 0
    return found | extended


def _of_token(value: bytes) -> bytes:
    return value.strip()


def _of_quoted(value: bytes) -> bytes:
    if _WINDOWS_PATH.match(value):
        return value.rsplit(b"\\", 1)[-1]
    decoded = _ENCODED.sub(lambda match: bytes([int(match[1], 16)]), value)
    return _ESCAPED.sub(rb"\1", decoded)


def _of_extended(value: bytes) -> bytes | None:
    """Return the value of `charset'language'percent-encoded` as UTF-8; None if it is not well-formed."""
    charset, *rest = value.strip().split(b"'", 2)
    codec = _CHARSETS.get(charset.lower())
    if codec is None or len(rest) != 2:  # noqa: PLR2004 - language and value
        return None
    try:
        return unquote_to_bytes(rest[1]).decode(codec).encode()
    except UnicodeDecodeError:
        return None
