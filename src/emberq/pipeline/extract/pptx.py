"""PowerPoint: for each slide its title, shapes, tables, diagrams and speaker's notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.ooxml import Element, Package, attribute, local_name

_TITLES: Final = frozenset({"title", "ctrTitle"})

#: Placeholders that the program fills automatically.
_AUTOMATIC: Final = frozenset({"sldNum", "dt", "hdr", "sldImg"})


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a presentation; its pages are the slides.

    Returns:
        The number of slides.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If a part is protected by a password.
    """
    package = Package(stream, build.meter)
    main = package.main_part()
    links = package.relationships(main)
    ids = [
        next((value for key, value in slide.items() if key.endswith("}id")), "")
        for slide in package.xml(main).iter("{*}sldId")
    ]
    # Each slide once: a small hostile file could name its largest slide a million times.
    slides = list(dict.fromkeys(links[identity].part for identity in ids if identity in links))
    seen: set[str] = set()
    for number, part in enumerate(slides, 1):
        build.page = number
        _write_slide(package, part, build, seen)
        progress(number, len(slides))
    return len(slides)


def _write_slide(package: Package, part: str, build: DocumentBuilder, seen: set[str]) -> None:
    """Write a slide with its diagrams and notes, unless an earlier slide (in `seen`) shares these parts."""
    shapes = list(_shapes(package.xml(part)))
    # A stable sort: the title comes first, the rest stays in drawing order.
    for shape in sorted(shapes, key=lambda shape: _placeholder(shape) not in _TITLES):
        if local_name(shape) == "tbl":
            build.table(_rows(shape))
        elif _placeholder(shape) in _TITLES:
            build.heading(_text(shape), 1)
        else:
            build.paragraph(_text(shape))
    for diagram in _new(package.linked(part, "diagramData"), seen):
        build.paragraph(_text(package.xml(diagram)))
    for notes in _new(package.linked(part, "notesSlide"), seen):
        for shape in _shapes(package.xml(notes)):
            build.paragraph(_text(shape))


def _new(parts: Iterator[str], seen: set[str]) -> Iterator[str]:
    for part in parts:
        if part not in seen:
            seen.add(part)
            yield part


def _shapes(root: Element) -> Iterator[Element]:
    """Yield shapes with text and tables, also those in groups, in drawing order."""
    for element in root.iter("{*}sp", "{*}tbl"):
        if local_name(element.getparent()) == "Fallback" or _placeholder(element) in _AUTOMATIC:
            continue
        # The text of a shape contains the text of shapes inside it.
        if next(element.iterancestors("{*}sp", "{*}tbl"), None) is None:
            yield element


def _placeholder(shape: Element) -> str:
    for properties in shape.iterchildren("{*}nvSpPr"):
        for placeholder in properties.iter("{*}ph"):
            return attribute(placeholder, "type", "body")
    return ""


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iterchildren("{*}tr"):
        yield [squeeze(_text(cell)) for cell in row.iterchildren("{*}tc")]


def _text(element: Element) -> str:
    """Return the text of an element's paragraphs, one per line."""
    lines = ("".join(_runs(paragraph)) for paragraph in element.iter("{*}p"))
    return "\n".join(line for line in lines if line.strip())


def _runs(paragraph: Element) -> Iterator[str]:
    for piece in paragraph.iter("{*}t", "{*}br"):
        yield "\n" if local_name(piece) == "br" else piece.text or ""
