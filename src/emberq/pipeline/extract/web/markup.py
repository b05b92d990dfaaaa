"""HTML: all visible words in order, as headings, paragraphs, list items and tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.encoded import count_pictures
from emberq.pipeline.extract.web.html_elements import RULES
from emberq.pipeline.extract.web.html_flow import Flow, Page
from emberq.pipeline.extract.web.html_meta import write_meta
from emberq.pipeline.extract.web.html_parse import Html, parse_html, parse_text


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read an HTML file; its title becomes the first heading, unless a heading has the same words.

    Raises:
        CorruptFile: If the file cannot be parsed.
    """
    data = stream.read()
    write_html(data, build, title=True)
    if pictures := count_pictures(data):
        build.warn(WarningCode.IMAGES_SKIPPED, count=pictures)


def write_html(
    data: bytes, build: DocumentBuilder, *, charset: str | None = None, title: bool = False
) -> int:
    """Append the text of HTML or XHTML to a document.

    Args:
        data: The bytes.
        build: Takes the text.
        charset: The encoding, if the transport named it.
        title: Whether the document's title becomes a heading, with what else it says about itself.

    Returns:
        How many of its pictures have no text.

    Raises:
        CorruptFile: If the bytes cannot be parsed.
    """
    parsed = parse_html(data, charset)
    if parsed is None:
        return 0
    if title:
        write_meta(parsed.root, build)
    return write_parsed(parsed, build)


def write_parsed(parsed: Html, build: DocumentBuilder) -> int:
    """Append the text of a parsed page to a document, and return how many of its pictures have no text."""
    page = Page(RULES, parsed)
    flow = Flow(build, page)
    flow.write(parsed.root)
    if flow.is_blank:
        # The page needs a script to show anything; this is what it says without one.
        for inner in map(parse_text, parsed.noscripts):
            if inner is not None:
                Flow(build, page).write(inner)
    return page.pictures
