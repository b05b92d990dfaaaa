"""OpenDocument files of text and slides: their parts, and what their blocks and lines say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final

from emberq.errors import CorruptFile, EncryptedFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name, parse_xml
from emberq.pipeline.extract.office.properties import write_values
from emberq.pipeline.extract.opendocument.odf_lists import ListStyles, Numbering
from emberq.pipeline.extract.packed.archive import open_archive, read_member
from emberq.pipeline.extract.web import mathml

_MANIFEST: Final = "META-INF/manifest.xml"

#: Most cells of a row; programs write how often an empty cell is repeated, up to the width of a sheet.
_MAX_CELLS: Final = 1024

#: Most spaces that one element stands for.
_MAX_SPACES: Final = 100

#: Elements around blocks.
_AROUND_BLOCKS: Final = frozenset(
    (
        *("section", "index-body", "index-title", "table-of-content", "illustration-index", "table-index"),
        *("object-index", "user-index", "alphabetical-index", "bibliography", "text-box", "g", "a", "text"),
        *("note-body", "header", "footer", "header-left", "footer-left", "header-first", "footer-first"),
        *(
            "header-style",
            "numbered-paragraph",
            "table-cell",
            "deletion-free",
            "custom-shape",
            "rect",
            "ellipse",
        ),
        *(
            "circle",
            "line",
            "polygon",
            "polyline",
            "path",
            "regular-polygon",
            "connector",
            "caption",
            "measure",
        ),
    )
)
#: Elements around the rows of a table.
_AROUND_ROWS: Final = frozenset(("table-header-rows", "table-rows", "table-row-group"))

#: Elements that are not shown in the text: the text before tracked changes, and declarations.
_NOT_SHOWN: Final = frozenset(
    (
        *("tracked-changes", "sequence-decls", "variable-decls", "user-field-decls", "dde-connection-decls"),
        *("forms", "note-citation", "ruby-text", "glue-point", "event-listeners", "plugin"),
        *("enhanced-geometry", "alphabetical-index-auto-mark-file", "index-entry-span"),
    )
)

#: What each property is called in files of other formats.
_PROPERTIES: Final = {
    "title": "title",
    "creator": "creator",
    "initial-creator": "creator",
    "subject": "subject",
    "keyword": "keywords",
    "description": "description",
}

_WHITE_SPACE: Final = re.compile(r"[ \t\r\n]+")


class OpenDocument:
    """An open file; its parts are parsed on demand."""

    def __init__(self, stream: BinaryIO, build: DocumentBuilder) -> None:
        """Open a file.

        Raises:
            ArchiveBomb: If it would unpack to far more than a document has.
            CorruptFile: If it cannot be read.
            EncryptedFile: If it is protected by a password.
        """
        self._build = build
        self._archive = open_archive(stream, build.meter)
        self._names = frozenset(self._archive.namelist())
        if _MANIFEST in self._names and b"encryption-data" in read_member(
            self._archive, _MANIFEST, build.meter
        ):
            raise EncryptedFile("The document is protected by a password.")
        self._objects: dict[str, Element | None] = {}
        self.content = self.part("content.xml")
        self.styles = self._optional("styles.xml")

    def part(self, name: str) -> Element:
        """Return the root element of a part.

        Raises:
            CorruptFile: If it is missing or damaged.
        """
        return parse_xml(read_member(self._archive, name, self._build.meter), name=name)

    def _optional(self, name: str) -> Element | None:
        if name not in self._names:
            return None
        try:
            return self.part(name)
        except CorruptFile:
            self._build.warn(WarningCode.PART_UNREADABLE, name)
            return None

    def object(self, reference: str) -> Element | None:
        """Return the content of an embedded object; nothing if it has none that is read."""
        name = f"{reference.removeprefix('./')}/content.xml"
        if name not in self._objects:
            self._objects[name] = self._optional(name)
        return self._objects[name]

    def body(self, kind: str) -> Element:
        """Return the element of the body, such as `text`.

        Raises:
            CorruptFile: If there is none.
        """
        for body in self.content.iterchildren("{*}body"):
            for found in body.iterchildren(f"{{*}}{kind}"):
                return found
        raise CorruptFile(f"The document is damaged: it has no {kind}.")

    def headers(self, *kinds: str) -> Iterator[Element]:
        """Yield the headers or footers of its pages."""
        if self.styles is not None:
            for page in self.styles.iter("{*}master-page"):
                yield from (child for child in page if local_name(child) in kinds)

    def write_properties(self) -> None:
        """Write the properties whose words are not in the text."""
        meta = self._optional("meta.xml")
        if meta is None:
            return
        values: dict[str, str] = {}
        for element in meta.iter("{*}*"):
            name = _PROPERTIES.get(local_name(element))
            if name and (text := squeeze(element.text or "")):
                values[name] = f"{values[name]}, {text}" if name == "keywords" and name in values else text
        write_values(values, self._build)


class Blocks:
    """Writes blocks: paragraphs, headings, lists, tables and frames."""

    def __init__(self, document: OpenDocument, build: DocumentBuilder) -> None:
        self._document = document
        self._build = build
        self._lists = ListStyles(document.content, document.styles)
        self._numbering = Numbering(self._lists)
        #: Blocks that a paragraph holds: frames with text, which come after it.
        self._held: list[Element] = []
        #: The texts of the cells around the present block; nothing outside of tables.
        self._cells: list[list[str]] = []
        self._comments: list[str] = []
        self._notes: list[Element] = []
        self._shown: set[Element] = set()
        #: The readings of what the present paragraph has said so far.
        self._readings: list[str] = []

    def write(self, parent: Element) -> None:
        """Write the blocks in an element."""
        for block in parent:
            self.write_block(block)

    def write_block(self, block: Element, *, mark: str = "") -> None:
        """Write one block.

        Args:
            block: Its element.
            mark: The number or bullet before it, in a list.
        """
        match local_name(block):
            case "p":
                self._paragraph(block, mark)
            case "h":
                self._heading(block, mark)
            case "list":
                self._list(block)
            case "table":
                self._table(block)
            case "frame":
                self._frame(block)
            case "annotation":
                self._comment(block)
            case name if name in _AROUND_BLOCKS:
                self.write(block)

    def write_rest(self) -> None:
        """Write the notes and comments of what was written."""
        while self._notes:
            notes, self._notes = self._notes, []
            for note in notes:
                self.write(note)
        for comment in self._comments:
            self._build.paragraph(comment)
        self._comments.clear()

    def lines(self, parent: Element) -> list[str]:
        """Return the texts of the paragraphs in an element, one by one."""
        self._cells.append([])
        self.write(parent)
        return self._cells.pop()

    def _emit(self, text: str, *, level: int = 0, tight: bool = False) -> None:
        if self._cells:
            if text.strip():
                # What is in cells is kept until the table ends.
                self._build.meter.expect_text(len(text))
                self._cells[-1].append(text)
        elif level:
            self._build.heading(text, level)
        else:
            self._build.paragraph(text, tight=tight)

    def _paragraph(self, paragraph: Element, mark: str) -> None:
        text = self._text(paragraph)
        self._emit(f"{mark}{text.strip()}" if mark and text.strip() else text, tight=bool(mark))
        self._write_held()

    def _heading(self, heading: Element, mark: str) -> None:
        level = _number(attribute(heading, "outline-level"), 1)
        mark = mark or self._numbering.heading_mark(heading, level)
        text = self._text(heading)
        self._emit(f"{mark}{text.strip()}" if text.strip() else "", level=level)
        self._write_held()

    def _write_held(self) -> None:
        held, self._held = self._held, []
        for frame in held:
            self.write_block(frame)

    def _list(self, items: Element) -> None:
        with self._numbering.in_list(items):
            for item in items:
                is_first = local_name(item) == "list-item"
                for block in item:
                    mark = ""
                    if is_first and local_name(block) in {"p", "h"}:
                        mark, is_first = self._numbering.mark(item), False
                    self.write_block(block, mark=mark)

    def _table(self, table: Element) -> None:
        rows = [list(_cells(row)) for row in _rows(table)]
        if max(map(len, rows), default=0) > 1:
            texts = ([" ".join(self.lines(cell)) for cell in row] for row in rows)
            if self._cells:
                for row in texts:
                    self._emit(" ".join(filter(None, row)))
            else:
                self._build.table(texts)
            return
        # A table with one column is a frame around text.
        for row in rows:
            for cell in row:
                self.write(cell)

    def _frame(self, frame: Element) -> None:
        """Write a frame: its text, its alternative text, or what is embedded in it."""
        content = {local_name(child): child for child in frame}
        alternative = [
            squeeze("".join(content[name].itertext())) for name in ("title", "desc") if name in content
        ]
        if "text-box" in content:
            self.write(content["text-box"])
        elif "table" in content:
            self._table(content["table"])
        elif "object" in content and self._object(content["object"]):
            return
        elif "image" in content:
            self._emit("\n".join(dict.fromkeys(filter(None, alternative))))
            self._build.warn(WarningCode.IMAGES_SKIPPED)

    def _object(self, element: Element) -> bool:
        """Write an embedded formula or chart; return whether it has text."""
        root = next(iter(element), None)
        if root is None:
            root = self._document.object(attribute(element, "href"))
        # Each object once: a small hostile file could name its largest object a thousand times.
        if root is None or root in self._shown:
            return False
        self._shown.add(root)
        if local_name(root) == "math":
            self._emit(mathml.latex(root))
            return True
        if next(root.iter("{*}chart"), None) is None:
            return False
        for child in root.iter("{*}p", "{*}table"):
            if local_name(child) == "table":
                # The data come last, behind the titles.
                self._table(child)
                break
            self._emit(self._text(child))
        return True

    def _comment(self, comment: Element) -> None:
        author = "".join(squeeze(name.text or "") for name in comment.iterchildren("{*}creator"))
        text = squeeze(" ".join(self._text(line) for line in comment.iter("{*}p", "{*}h")))
        if text:
            self._comments.append(f"Comment{f' by {author}' if author else ''}: {text}")

    def _text(self, element: Element) -> str:
        """Return the text of a paragraph; what it holds besides is kept for later."""
        pieces: list[str] = []
        readings, self._readings = self._readings, []
        self._collect(element, pieces)
        if self._readings:
            # Behind the paragraph, so that the words stay together.
            pieces.append(f" ({' '.join(self._readings)})")
        self._readings = readings
        return "".join(pieces)

    def _collect(self, element: Element, pieces: list[str]) -> None:
        pieces.append(_WHITE_SPACE.sub(" ", element.text or ""))
        for child in element:
            match local_name(child):
                case "s":
                    pieces.append(" " * min(_number(attribute(child, "c"), 1), _MAX_SPACES))
                case "tab":
                    pieces.append("\t")
                case "line-break":
                    pieces.append("\n")
                case "frame" | "custom-shape" | "rect" | "g":
                    self._inline_frame(child, pieces)
                case "annotation":
                    self._comment(child)
                case "note":
                    self._notes += child.iterchildren("{*}note-body")
                case "ruby":
                    self._ruby(child, pieces)
                case name if name and name not in _NOT_SHOWN:
                    self._collect(child, pieces)
            pieces.append(_WHITE_SPACE.sub(" ", child.tail or ""))

    def _inline_frame(self, frame: Element, pieces: list[str]) -> None:
        formula = next(frame.iter("{*}object"), None)
        root = None
        if formula is not None:
            with suppress(StopIteration):
                root = (
                    next(iter(formula)) if len(formula) else self._document.object(attribute(formula, "href"))
                )
        if root is not None and local_name(root) == "math":
            pieces.append(mathml.latex(root))
        else:
            self._held.append(frame)

    def _ruby(self, ruby: Element, pieces: list[str]) -> None:
        """Append a text, and keep its reading."""
        for base in ruby.iterchildren("{*}ruby-base"):
            self._collect(base, pieces)
        for text in ruby.iterchildren("{*}ruby-text"):
            self._readings += filter(None, [squeeze("".join(text.itertext()))])


def _rows(table: Element) -> Iterator[Element]:
    for child in table:
        name = local_name(child)
        if name == "table-row":
            yield child
        elif name in _AROUND_ROWS:
            yield from _rows(child)


def _cells(row: Element) -> Iterator[Element]:
    """Yield the cells of a row; cells that a merged one covers are there too, and empty."""
    count = 0
    for cell in row:
        if local_name(cell) in {"table-cell", "covered-table-cell"}:
            for _ in range(min(_number(attribute(cell, "number-columns-repeated"), 1), _MAX_CELLS - count)):
                count += 1
                yield cell


def _number(value: str, default: int) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default  # noqa: PLR2004
