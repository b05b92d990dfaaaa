"""Web archives (MHTML, RFC 2557): pages that a browser, Word or a wiki saved in the form of a mail."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO, Final

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.mail.mailheader import words
from emberq.pipeline.extract.mail.mailparser import parse
from emberq.pipeline.extract.web.markup import write_html

_TITLE: Final = re.compile(rb"<title", re.IGNORECASE)
_HTML: Final = frozenset(("text/html", "application/xhtml+xml"))


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> None:
    """Read the page, then the pages in its frames; what else a page is made of is left out.

    Raises:
        CorruptFile: If a page cannot be parsed.
        FileTooLarge: If it has too many parts.
    """
    archive = parse(stream)
    parts = [part for part in archive.walk() if not part.is_multipart()]
    pages = [part for part in parts if part.kind in _HTML]
    written: set[bytes] = set()
    for number, page in enumerate(pages, 1):
        data = page.content()
        if data not in written:
            if not written and not _TITLE.search(data):
                build.heading(words(archive.get("Subject", "")), 1)
            written.add(data)
            write_html(data, build, charset=page.charset, title=number == 1)
        progress(number, len(pages))
    if pictures := sum(part.kind.startswith("image/") for part in parts):
        build.warn(WarningCode.IMAGES_SKIPPED, count=pictures)
