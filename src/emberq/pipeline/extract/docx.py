"""Word: the body in order with headings and tables, then notes, headers and footers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.ooxml import Element, Package, attribute, local_name

__all__ = ["read"]

#: Outline levels of headings, as they are written; 9 is Word's name for body text.
_OUTLINE_LEVELS: Final = frozenset("012345678")

#: Styles that say by their built-in name that they are headings.
_HEADING_NAME: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)

#: Wrappers around blocks: content controls, tracked insertions, custom XML.
_BLOCK_WRAPPERS: Final = frozenset({"sdt", "sdtContent", "customXml", "ins", "moveTo", "body", "hdr", "ftr"})

#: What must not be read: text before a tracked change, and the copy of a text box for old programs.
_HIDDEN: Final = frozenset({"del", "moveFrom", "Fallback", "pPr", "rPr"})

_SIGNS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a Word file; its pages exist only when it is laid out, so it has no page numbers.

    Raises:
        ArchiveBomb: If it would unpack to more than a document should.
        CorruptFile: If it is damaged.
        EncryptedFile: If a part is protected by a password.
    """
    package = Package(stream)
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
            # The other types are the lines that part notes from text.
            if attribute(note, "type", "normal") == "normal":
                _write_blocks(note, build, levels)
    for part in package.linked(main, "footer"):
        _write_once(package.xml(part), build, seen)


def _heading_levels(styles: Element) -> dict[str, int]:
    """Return the outline level, 1 for the highest, of each paragraph style that has one."""
    own: dict[str, int] = {}
    parents: dict[str, str] = {}
    for style in styles:
        if local_name(style) != "style":
            continue
        identity = attribute(style, "styleId")
        for child in style.iter():
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
                case _:
                    pass
    return {style: level for style in own | parents if (level := _inherited(style, own, parents))}


def _inherited(style: str, own: dict[str, int], parents: dict[str, str]) -> int:
    visited: set[str] = set()
    while style not in own and style in parents and style not in visited:
        visited.add(style)
        style = parents[style]
    return own.get(style, 0)


def _write_once(part: Element, build: DocumentBuilder, seen: set[str]) -> None:
    """Write a header or footer, unless another section had the same."""
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
    # A table of one column is a frame around text.
    for row in rows:
        for cell in row:
            _write_blocks(cell, build, levels)


def _under(element: Element, wanted: str) -> Iterator[Element]:
    """Yield the children of a name, also those in wrappers."""
    for child in element:
        name = local_name(child)
        if name == wanted:
            yield child
        elif name in _BLOCK_WRAPPERS:
            yield from _under(child, wanted)


def _cell_text(cell: Element) -> str:
    """Return the text of a cell's paragraphs, also those of tables and boxes within."""
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
    """Return the text of a paragraph, without that of text boxes anchored in it."""
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
    """Yield the contents of the text boxes anchored in a paragraph, not those within another box."""
    for child in element:
        name = local_name(child)
        if name == "txbxContent":
            yield child
        elif name not in _HIDDEN:
            yield from _text_boxes(child)
