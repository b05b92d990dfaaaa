"""XML: DocBook, JATS and FictionBook with their headings; of any other XML, all text in its order."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from lxml import etree

from emberq.errors import CorruptFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name, parse_xml
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.text import write_text
from emberq.pipeline.extract.web import mathml, xml_words
from emberq.pipeline.extract.web.html_tables import data_rows

#: Most characters of an entity that a file defines for itself. Entities in entities are not resolved.
_LONGEST_ENTITY: Final = 1000

#: Most levels of notes in notes and cells.
_MAX_DEPTH: Final = 10


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read an XML file; a file that is not well-formed is read as plain text."""
    data = stream.read()
    try:
        root = parse_xml(data, name="XML")
    except CorruptFile:
        write_text(decode(data), build)
        return
    if pictures := sum(1 for _ in root.iter("{*}binary")):
        build.warn(WarningCode.IMAGES_SKIPPED, count=pictures)
    _Writer(build, _entities(root), is_data=_is_data(root)).write(root)


def _entities(root: Element) -> dict[str, str]:
    """Return the entities of plain text that a file defines."""
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is None:
        return {}
    return {
        entity.name: entity.content
        for entity in dtd.iterentities()
        if entity.content and len(entity.content) <= _LONGEST_ENTITY and not {"&", "<"} & set(entity.content)
    }


def _is_data(root: Element) -> bool:
    """Return whether the names of elements tell what the values are: it has no paragraphs of text."""
    return not any(True for _ in root.iter("{*}p", "{*}para", "{*}simpara", "{*}text", "{*}title"))


class _Writer:
    """Walks a tree without recursion, but for notes and cells."""

    def __init__(
        self, build: DocumentBuilder, entities: dict[str, str], *, is_data: bool = False, depth: int = 0
    ) -> None:
        self._build = build
        self._entities = entities
        self._is_data = is_data
        self._depth = depth
        self._pieces: list[str] = []
        self._size = 0
        self._notes: list[Element] = []
        self._level = 0
        self._line = 0
        self._preformatted = 0
        self._title = False
        self._mark = ""
        self._tight = False
        self._numbers: list[int | None] = []

    def write(self, root: Element) -> None:
        """Append the text of an element, without what follows it."""
        ways: list[tuple[Element | None, Iterator[Element], bool]] = [(None, iter((root,)), False)]
        while ways:
            parent, children, is_mixed = ways[-1]
            element = next(children, None)
            if element is None:
                ways.pop()
                if parent is not None:
                    self._end(parent, is_mixed=ways[-1][2])
                continue
            if self._start(element, is_mixed=is_mixed):
                self._add(element.text)
                ways.append((element, iter(element), _is_mixed(element)))
            elif element is not root:
                self._add(element.tail)
        self._flush()

    def _start(self, element: Element, *, is_mixed: bool) -> bool:
        """Begin an element; return whether its content follows."""
        if element.tag is etree.Entity:
            name = element.name
            self._add(self._entities.get(name) or html.unescape(f"&{name};"))
            return False
        name = local_name(element)
        if not name or name in xml_words.SILENT:
            return False
        if name in {"math", "tex-math"}:
            formula = _formula(element, name)
            self._add(formula if is_mixed else f" {formula} ")
            return False
        if name in xml_words.NOTES and self._depth < _MAX_DEPTH:
            self._notes.append(element)
            if not self._line:
                self._flush()
            return False
        if name in xml_words.TABLES and (rows := data_rows(element, self._inner)):
            self._flush()
            for title in element.iterchildren("{*}title", "{*}caption"):
                self._build.paragraph(self._inner(title))
            self._build.table(rows)
            return False
        self._begin(element, name, is_mixed=is_mixed)
        return True

    def _begin(self, element: Element, name: str, *, is_mixed: bool) -> None:
        if self._is_block(name, is_mixed=is_mixed):
            self._flush()
            if self._is_data:
                self._begin_data(element, name)
        elif not is_mixed:
            self._add(" ")
        if name in xml_words.SECTIONS:
            self._level += 1
        if name in xml_words.TITLES and not self._line:
            self._title = _is_section(element.getparent())
        if name in xml_words.LISTS:
            is_ordered = name in xml_words.ORDERED or attribute(element, "list-type") == "order"
            self._numbers.append(0 if is_ordered else None)
        if name in xml_words.ITEMS:
            self._mark = self._next_mark(element)
        self._line += name in xml_words.LINES
        self._preformatted += name in xml_words.PREFORMATTED

    def _begin_data(self, element: Element, name: str) -> None:
        """Begin a value with its name and attributes, and what has only attributes with those."""
        values = ", ".join(f"{key.rpartition('}')[2]} {value}" for key, value in element.items())
        has_text = not len(element) and bool((element.text or "").strip())
        if has_text:
            self._add(f"{name} ({values}): " if values else f"{name}: ")
        elif values:
            self._add(f"{name}: {values}")
        self._tight = element.getprevious() is not None and (has_text or not len(element))
        if values and len(element):
            self._flush()

    def _end(self, element: Element, *, is_mixed: bool) -> None:
        name = local_name(element)
        if name in {"ulink", "link", "ext-link", "uri", "a"}:
            self._add_target(element)
        self._line -= name in xml_words.LINES
        if self._is_block(name, is_mixed=is_mixed):
            self._flush()
        elif not is_mixed:
            self._add(" ")
        self._preformatted -= name in xml_words.PREFORMATTED
        self._level -= name in xml_words.SECTIONS
        if name in xml_words.LISTS:
            self._numbers.pop()
            self._mark = ""
        self._add(element.tail)

    def _is_block(self, name: str, *, is_mixed: bool) -> bool:
        """Return whether an element begins and ends a paragraph where it stands."""
        if self._title and name in {"p", "para"}:
            return False
        if name in xml_words.BREAKS or name in xml_words.PREFORMATTED:
            return True
        return not self._line and not is_mixed

    def _next_mark(self, item: Element) -> str:
        if not self._numbers or self._numbers[-1] is None or item.find("{*}label") is not None:
            return "- "
        self._numbers[-1] += 1
        return f"{self._numbers[-1]}. "

    def _add_target(self, element: Element) -> None:
        target = next(filter(None, (attribute(element, name) for name in xml_words.TARGETS)), "")
        if target.startswith(("http://", "https://")) and target not in "".join(self._pieces[-3:]):
            self._add(f" ({target})")

    def _add(self, text: str | None) -> None:
        if text:
            self._pieces.append(text)
            self._size += len(text)
            # A short entity may stand for a long text.
            self._build.meter.expect_text(self._size)

    def _inner(self, element: Element) -> str:
        """Return the text of a cell or note on one line."""
        part = DocumentBuilder(self._build.meter)
        _Writer(part, self._entities, depth=self._depth + 1).write(element)
        return squeeze(part.text)

    def _flush(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if not self._preformatted:
            text = squeeze(text)
        if text and not text.isspace():
            if self._title:
                self._build.heading(self._mark + text, max(self._level, 1))
            else:
                self._build.paragraph(self._mark + text, tight=bool(self._mark) or self._tight)
            self._mark = ""
        self._title = self._tight = False
        notes = self._notes[:]
        self._notes.clear()
        for note in notes:
            self._build.paragraph(self._inner_note(note))

    def _inner_note(self, note: Element) -> str:
        part = DocumentBuilder(self._build.meter)
        inner = _Writer(part, self._entities, depth=self._depth + 1)
        for child in note:
            inner.write(child)
        return squeeze(f"{note.text or ''} {part.text}")


def _is_mixed(element: Element) -> bool:
    """Return whether words stand beside the elements in an element, so that they are parts of a line."""
    if element.text and not element.text.isspace() and len(element):
        return True
    return any(child.tail and not child.tail.isspace() for child in element)


def _is_section(element: Element | None) -> bool:
    """Return whether the title of an element is that of a section."""
    while element is not None and local_name(element) in xml_words.HOLDERS:
        element = element.getparent()
    return element is not None and local_name(element) in xml_words.SECTIONS


def _formula(element: Element, name: str) -> str:
    """Return a formula as LaTeX; an empty text if LaTeX stands beside its MathML."""
    if name == "math":
        parent = element.getparent()
        if (
            parent is not None
            and local_name(parent) == "alternatives"
            and parent.find("{*}tex-math") is not None
        ):
            return ""
        text = mathml.latex(element)
    else:
        # Each formula of JATS is a document of its own.
        text = element.text or ""
        begin, end = text.find(r"\begin{document}"), text.rfind(r"\end{document}")
        if 0 <= begin < end:
            text = text[begin + len(r"\begin{document}") : end]
        text = squeeze(text).strip("$")
    return f"${text}$" if text else ""
