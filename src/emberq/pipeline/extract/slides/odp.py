"""OpenDocument presentations: for each slide its title, shapes, tables, charts, comments and notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name
from emberq.pipeline.extract.opendocument.odf import Blocks, OpenDocument

#: Placeholders that the program fills automatically.
_AUTOMATIC: Final = frozenset({"page-number", "date-time", "header", "footer", "page"})


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a presentation; its pages are the slides.

    Returns:
        The number of slides.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If the file is protected by a password.
    """
    document = OpenDocument(stream, build)
    blocks = Blocks(document, build)
    slides = list(document.body("presentation").iterchildren("{*}page"))
    for number, slide in enumerate(slides, 1):
        build.page = number
        _write_slide(slide, blocks, build)
        progress(number, len(slides))
    document.write_properties()
    return len(slides)


def _write_slide(slide: Element, blocks: Blocks, build: DocumentBuilder) -> None:
    # A stable sort: the title comes first, the rest stays in drawing order.
    for shape in sorted(slide, key=lambda shape: attribute(shape, "class") != "title"):
        if attribute(shape, "class") == "title":
            build.heading(squeeze(" ".join(blocks.lines(shape))), 1)
        elif local_name(shape) != "notes":
            blocks.write_block(shape)
    blocks.write_rest()
    for notes in slide.iterchildren("{*}notes"):
        for shape in notes:
            if attribute(shape, "class") not in _AUTOMATIC:
                blocks.write_block(shape)
