"""Word: headers, the body with headings and tables, then notes and footers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.ooxml import Element, Package, attribute, local_name

#: Outline levels of headings, as in the file; 9 is Word's level for body text.
_OUTLINE_LEVELS: Final = frozenset("012345678")

#: The built-in names of heading styles.
_HEADING_NAME: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)

#: Elements around blocks: content controls, tracked insertions, custom XML.
_BLOCK_WRAPPERS: Final = frozenset({"sdt", "sdtContent", "customXml", "ins", "moveTo", "body", "hdr", "ftr"})

#: Elements that are not read: text before a tracked change, and copies of text boxes for old programs.
_HIDDEN: Final = frozenset({"del", "moveFrom", "Fallback", "pPr", "rPr"})

_SIGNS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a Word file; it has no page numbers, because pages exist only once a program lays it out.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If a part is protected by a password.
    """
    package = Package(stream, build.meter)
    main = package.main_part()
    levels: dict[str, int] = {}
    for part in package.linked(main, "styles"):
        levels = _heading_levels(package.xml(part))
    body = next((child for child in package.xml(main) if local_name(child) == "body"), None)
    seen: set[str] = set()
    for part in package.linked(main, "header"):
        _write_once(package.xml(part), build, seen)
    if body is not None:
        _write_blocks(body, build, levels)
    for part in package.linked(main, "footnotes", "endnotes"):
        for note in package.xml(part):
            # The other types are the lines that separate the notes from the text.
            if attribute(note, "type", "normal") == "normal":
                _write_blocks(note, build, levels)
    for part in package.linked(main, "footer"):
        _write_once(package.xml(part), build, seen)


def _heading_levels(styles: Element) -> dict[str, int]:
    """Return the outline level of each paragraph style that has one; 1 is the highest."""
    own: dict[str, int] = {}
    parents: dict[str, str] = {}
    for style in styles.iterchildren("{*}style"):
        identity = attribute(style, "styleId")
        for child in style.iter("{*}name", "{*}basedOn", "{*}outlineLvl"):
            value = attribute(child, "val")
            match local_name(child):
                case "name" if value.lower() == "title":
                    own[identity] = 1
                case "name" if found := _HEADING_NAME.fullmatch(value):
                    own[identity] = int(found[1])
                case "basedOn":
                    parents[identity] = value
                case "outlineLvl" if value in _OUTLINE_LEVELS:
                    own.setdefault(identity, int(value) + 1)
    return {style: level for style in list(own | parents) if (level := _inherited(style, own, parents))}


def _inherited(style: str, own: dict[str, int], parents: dict[str, str]) -> int:
    visited: set[str] = set()
    while style not in own and style in parents and style not in visited:
        visited.add(style)
        style = parents[style]
    level = own.get(style, 0)
    # Kept, so that a long chain of styles is walked once and not once for each of them.
    own.update(dict.fromkeys(visited, level))
    return level


def _write_once(part: Element, build: DocumentBuilder, seen: set[str]) -> None:
    """Write a header or footer, unless another section has the same."""
    for paragraph in part.iter("{*}p"):
        text = _text(paragraph)
        if text.strip() and text not in seen:
            seen.add(text)
            build.paragraph(text)


def _write_blocks(container: Element, build: DocumentBuilder, levels: dict[str, int]) -> None:
    for block in container:
        name = local_name(block)
        if name == "p":
            _write_paragraph(block, build, levels)
        elif name == "tbl":
            _write_table(block, build, levels)
        elif name in _BLOCK_WRAPPERS:
            _write_blocks(block, build, levels)


def _write_paragraph(paragraph: Element, build: DocumentBuilder, levels: dict[str, int]) -> None:
    text = _text(paragraph)
    if level := _level(paragraph, levels):
        build.heading(text, level)
    else:
        build.paragraph(text)
    for box in _text_boxes(paragraph):
        _write_blocks(box, build, levels)


def _write_table(table: Element, build: DocumentBuilder, levels: dict[str, int]) -> None:
    rows = [list(_under(row, "tc")) for row in _under(table, "tr")]
    if max(map(len, rows), default=0) > 1:
        build.table([squeeze(_cell_text(cell)) for cell in row] for row in rows)
        return
    # A table with one column is a frame around text.
    for row in rows:
        for cell in row:
            _write_blocks(cell, build, levels)


def _under(element: Element, wanted: str) -> Iterator[Element]:
    """Yield the children with this name, also those inside wrappers."""
    for child in element:
        name = local_name(child)
        if name == wanted:
            yield child
        elif name in _BLOCK_WRAPPERS:
            yield from _under(child, wanted)


def _cell_text(cell: Element) -> str:
    """Return the text of a cell's paragraphs, also those of tables and text boxes in it."""
    return " ".join(_text(paragraph) for paragraph in cell.iter("{*}p") if not _is_hidden(paragraph, cell))


def _is_hidden(element: Element, top: Element) -> bool:
    while element is not top:
        if local_name(element) in _HIDDEN:
            return True
        element = element.getparent()
    return False


def _level(paragraph: Element, levels: dict[str, int]) -> int:
    for properties in paragraph.iterchildren("{*}pPr"):
        for outline in properties.iterchildren("{*}outlineLvl"):
            value = attribute(outline, "val")
            return int(value) + 1 if value in _OUTLINE_LEVELS else 0
        for style in properties.iterchildren("{*}pStyle"):
            return levels.get(attribute(style, "val"), 0)
    return 0


def _text(element: Element) -> str:
    """Return the text of a paragraph, without the text boxes that are anchored in it."""
    return "".join(_runs(element))


def _runs(element: Element) -> Iterator[str]:
    for child in element:
        name = local_name(child)
        if name == "t":
            yield child.text or ""
        elif name in _SIGNS:
            yield _SIGNS[name]
        elif name not in _HIDDEN and name != "txbxContent":
            yield from _runs(child)


def _text_boxes(element: Element) -> Iterator[Element]:
    """Yield the contents of the text boxes that are anchored in a paragraph, but not of boxes in boxes."""
    for child in element:
        name = local_name(child)
        if name == "txbxContent":
            yield child
        elif name not in _HIDDEN:
            yield from _text_boxes(child)
