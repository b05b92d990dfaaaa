"""Tells pictures, which have no text of their own."""

from __future__ import annotations

import re
from typing import Final

_PICTURE: Final = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|II(?:\*\0|\+\0)|MM\0[*+]|RIFF....WEBP"
    rb"|....ftyp(?:hei|hev|mif1|avif|crx)"
    rb"|\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF|\0\0[\1\2]\0[\1-\x40]\0|\0\0\0\x0cjP  |\xff\x4f\xff\x51|8BPS\0"
    rb"|BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x6c\x7c]\0\0\0"
    rb"|\s*+(?:<\?xml[^>]*+>\s*+)?(?:<!DOCTYPE svg[^>]*+>\s*+)?<svg[\s>]",
    re.DOTALL,
)


#: The suffixes of pictures; a damaged one has nothing else.
_SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".heic", ".heif", ".avif"),
    *(".emf", ".emz", ".wmf", ".wmz", ".ico", ".jp2", ".psd", ".svg"),
)


def is_picture(data: bytes, name: str = "") -> bool:
    """Return whether a file that cannot be read is a picture, by its bytes or else by its name."""
    return _PICTURE.match(data) is not None or name.lower().endswith(_SUFFIXES)
