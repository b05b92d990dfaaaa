"""Writes OpenDocument files for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Final

__all__ = ["make_odp", "make_ods", "make_odt"]

_NAMES: Final = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{uri}:1.0"'
    for name, uri in {
        **{name: name for name in ("office", "style", "text", "table", "presentation", "meta", "chart")},
        "draw": "drawing",
        "svg": "svg-compatible",
    }.items()
)
_MORE_NAMES: Final = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:math="http://www.w3.org/1998/Math/MathML"'
)


def make_odt(body: str, *, styles: str = "", page: str = "", meta: str = "", **parts: str) -> bytes:
    """Write a text.

    Args:
        body: The blocks.
        styles: Automatic styles, such as those of lists.
        page: Headers and footers.
        meta: The properties.
        parts: Further parts, by their names; those of `objects` have blanks for slashes.
    """
    return _make("text", body, styles, page, meta, parts)


def make_odp(body: str, *, meta: str = "", **parts: str) -> bytes:
    """Write a presentation; arguments as for `make_odt`."""
    return _make("presentation", body, "", "", meta, parts)


def make_ods(body: str, *, meta: str = "", **parts: str) -> bytes:
    """Write a workbook; arguments as for `make_odt`."""
    return _make("spreadsheet", body, "", "", meta, parts)


def _make(kind: str, body: str, styles: str, page: str, meta: str, parts: Mapping[str, str]) -> bytes:
    members = {
        "mimetype": f"application/vnd.oasis.opendocument.{kind}",
        "META-INF/manifest.xml": "<manifest/>",
        "content.xml": _part(
            "document-content",
            f"<office:automatic-styles>{styles}</office:automatic-styles>"
            f"<office:body><office:{kind}>{body}</office:{kind}></office:body>",
        ),
        "styles.xml": _part(
            "document-styles",
            "<office:master-styles>"
            f"<style:master-page>{page}</style:master-page><style:master-page>{page}</style:master-page>"
            "</office:master-styles>",
        ),
        "meta.xml": _part("document-meta", f"<office:meta>{meta}</office:meta>"),
        **{name.replace("__", "/"): _part("document-content", text) for name, text in parts.items()},
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return target.getvalue()


def _part(root: str, inner: str) -> str:
    return f"<office:{root} {_NAMES} {_MORE_NAMES}>{inner}</office:{root}>"
