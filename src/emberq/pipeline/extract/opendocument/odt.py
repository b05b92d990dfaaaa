"""OpenDocument texts: headers, the body, then notes, comments and footers."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.opendocument.odf import Blocks, OpenDocument

_HEADERS: Final = ("header", "header-left", "header-first")
_FOOTERS: Final = ("footer", "footer-left", "footer-first")


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a text; it has no page numbers, because pages exist only once a program lays it out.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If the file is protected by a password.
    """
    document = OpenDocument(stream, build)
    blocks = Blocks(document, build)
    seen: set[str] = set()
    _write_once(document, blocks, build, _HEADERS, seen)
    blocks.write(document.body("text"))
    blocks.write_rest()
    _write_once(document, blocks, build, _FOOTERS, seen)
    document.write_properties()


def _write_once(
    document: OpenDocument, blocks: Blocks, build: DocumentBuilder, kinds: tuple[str, ...], seen: set[str]
) -> None:
    """Write the lines of headers or footers, unless another page has the same."""
    for part in document.headers(*kinds):
        for line in blocks.lines(part):
            if line not in seen:
                seen.add(line)
                build.paragraph(line)
