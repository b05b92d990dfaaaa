"""Finds bytes that are written as text: data URIs and base64, which are no words and are left out."""

from __future__ import annotations

import re
from typing import Final

#: Fewest characters of base64 without a data URI. Keys, hashes and long words are shorter.
_LEAST: Final = 200

#: Characters in which real text has a space; only a text with a longer piece is searched for base64.
_WINDOW: Final = 96

#: A data URI of base64 or of a picture; of what is before the bytes, nothing is kept.
_DATA_URI: Final = re.compile(
    r"data:(?:[\w.+-]{1,80}+/[\w.+-]{1,80}+)?+(?:;[\w.+=-]{1,80}+)*+"
    r"(?:(?<=;base64),[A-Za-z0-9+/=_%-]*+(?:\r?\n[A-Za-z0-9+/=_%-]{40,}+)*+|(?<=svg\+xml),[^\s\"')>]*+)"
)
#: The beginning of a picture; prose that only mentions one has no bytes.
_PICTURE: Final = re.compile(rb"data:image/[\w.+-]{1,80}+(?:;[\w=.-]{1,80}+)*+,[A-Za-z0-9+/%<]{16}")
#: A run of base64, or lines of it: a line of mail has 76 characters, one of a certificate 64.
_RUN: Final = re.compile(
    r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{60,}+(?:\r?\n[ \t]*+[A-Za-z0-9+/_-]{60,}+)*+"
    r"(?:\r?\n[ \t]*+[A-Za-z0-9+/_-]{20,}+(?=[=\s]|\Z))?+={0,2}+(?![A-Za-z0-9+/_=-])"
)

#: Least shares of the kinds of characters; random bytes have 41, 41, 16 and 3 percent. Base 16, sequences of
#: genes, and words without spaces lack a kind; paths and slugs have more of the signs that separate words.
_LEAST_UPPER: Final = 0.1
_LEAST_LOWER: Final = 0.1
_LEAST_DIGITS: Final = 0.02
_MOST_SIGNS: Final = 0.08

_UPPER: Final = str.maketrans("", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER: Final = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")
_DIGITS: Final = str.maketrans("", "", "0123456789")
_SIGNS: Final = str.maketrans("", "", "+/-_")
_SPACES: Final = str.maketrans("", "", " \t\r\n=")


def count_pictures(data: bytes) -> int:
    """Return how many pictures a text has in it as data URIs."""
    return len(_PICTURE.findall(data)) if b"data:image/" in data else 0


def drop_encoded(text: str) -> str:
    """Return the text without data URIs and long runs of base64.

    Long addresses, hashes, identifiers, paths, sequences of genes and words without spaces are kept.
    """
    if "data:" in text:
        text = _DATA_URI.sub("", text)
    if _has_long_piece(text):
        text = _RUN.sub(_kept, text)
    return text


def _has_long_piece(text: str) -> bool:
    """Return whether some piece of ASCII text is so long without a space that it may be base64."""
    for start in range(0, len(text) - _LEAST + 1, _WINDOW):
        if text.find(" ", start, start + _WINDOW) < 0 and text[start : start + _WINDOW].isascii():
            return True
    return False


def _kept(run: re.Match[str]) -> str:
    text = run[0].translate(_SPACES)
    size = len(text)
    if (
        size >= _LEAST
        and _share(text, _UPPER) >= _LEAST_UPPER
        and _share(text, _LOWER) >= _LEAST_LOWER
        and _share(text, _DIGITS) >= _LEAST_DIGITS
        and _share(text, _SIGNS) <= _MOST_SIGNS
    ):
        return ""
    return run[0]


def _share(text: str, without: dict[int, int | None]) -> float:
    return 1 - len(text.translate(without)) / len(text)
