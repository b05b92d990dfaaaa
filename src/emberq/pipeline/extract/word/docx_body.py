"""The blocks of a Word file: paragraphs with their numbers, tables, and what hangs on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.drawingml import optional, write_chart, write_diagram
from emberq.pipeline.extract.office.ooxml import Element, Package, attribute, local_name
from emberq.pipeline.extract.word.docx_numbering import Numbering
from emberq.pipeline.extract.word.docx_runs import HIDDEN, Hanging, Links, Runs
from emberq.pipeline.extract.word.docx_styles import OUTLINE_LEVELS, ListPlace, Styles, list_place

#: Elements around blocks: content controls, tracked insertions, custom XML.
_WRAPPERS: Final = frozenset(
    {"sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag", "body", "hdr", "ftr", "Choice"}
)

#: Most columns that a cell covers: Word's limit.
_MOST_COLUMNS: Final = 63


@dataclass(slots=True)
class Word:
    """What the parts of one Word file share.

    Attributes:
        package: The container.
        build: Takes the text.
        styles: The paragraph styles.
        numbering: The lists.
        comments: The texts of comments by id; each is taken out when it is written.
        placed: Parts that have been written where they stand.
        links: The targets of links.
    """

    package: Package
    build: DocumentBuilder
    styles: Styles
    numbering: Numbering
    comments: dict[str, str]
    placed: set[str] = field(default_factory=set)
    links: Links = field(default_factory=Links)


class Blocks:
    """Writes the blocks of one part."""

    def __init__(self, word: Word, part: str) -> None:
        """Begin a part of a file."""
        self._word = word
        self._build = word.build
        self._parts = {key: link.part for key, link in word.package.relationships(part).items()}
        self._targets = word.package.targets(part)
        #: Whether the last block is an item of a list.
        self._in_list = False

    def write(self, container: Element) -> None:
        """Write the blocks in an element."""
        for block in container:
            name = local_name(block)
            if name == "p":
                self._write_paragraph(block)
            elif name == "tbl":
                self._write_table(block)
            elif name == "altChunk":
                self._insert(self._parts.get(attribute(block, "id"), ""))
            elif name == "AlternateContent":
                self.write(list(block)[:1])
            elif name in _WRAPPERS:
                self.write(block)

    def lines(self, container: Element) -> Iterator[str]:
        """Yield the text of each paragraph in an element, those of tables and boxes too."""
        for paragraph in _paragraphs(container):
            yield from self._lines_of(paragraph, [])

    def _lines_of(self, paragraph: Element, pending: list[Hanging]) -> Iterator[str]:
        """Yield the texts of a paragraph and of its boxes; what else hangs on it goes into `pending`."""
        runs = self._runs(paragraph)
        if text := self._labelled(paragraph, runs.text()):
            yield text
        for hanging in runs.hanging:
            if hanging.kind == "box":
                for inner in _paragraphs(hanging.element):
                    yield from self._lines_of(inner, pending)
            elif hanging.kind == "alternative":
                yield hanging.value
            else:
                pending.append(hanging)

    def _runs(self, paragraph: Element) -> Runs:
        runs = Runs(self._targets, self._word.links)
        runs.read(paragraph)
        return runs

    def _labelled(self, paragraph: Element, text: str) -> str:
        style, place, _ = _properties(paragraph)
        label = self._label(style, place)
        return f"{label} {text}" if label and text.strip() else text

    def _label(self, style: str, place: ListPlace | None) -> str:
        if place is None and style not in self._word.styles.lists:
            return ""
        return self._word.numbering.label(place, style)

    def _write_paragraph(self, paragraph: Element) -> None:
        style, place, outline = _properties(paragraph)
        runs = self._runs(paragraph)
        text = runs.text()
        label = self._label(style, place)
        if text.strip():
            shown = f"{label} {text}" if label else text
            level = self._word.styles.levels.get(style, 0) if outline is None else outline
            if level:
                self._build.heading(shown, level)
            else:
                self._build.paragraph(shown, tight=bool(label) and self._in_list)
            self._in_list = bool(label) and not level
        for hanging in runs.hanging:
            self._write_hanging(hanging)

    def _write_hanging(self, hanging: Hanging) -> None:
        self._in_list = False
        part = self._parts.get(hanging.value, "")
        match hanging.kind:
            case "box":
                self.write(hanging.element)
            case "alternative":
                self._build.paragraph(hanging.value)
            case "picture":
                self._build.warn(WarningCode.IMAGES_SKIPPED)
            case "comment":
                self._build.paragraph(self._word.comments.pop(hanging.value, ""))
            case "chart" | "diagram" | "object":
                self.write_part(hanging.kind, part)

    def write_part(self, kind: str, part: str) -> None:
        """Write a chart, a diagram, an embedded file or a piece of another document, once.

        Args:
            kind: `chart`, `diagram`, `object`, or `chunk`.
            part: Its name; nothing is written for an empty one.
        """
        if not part or part in self._word.placed:
            return
        self._word.placed.add(part)
        self._in_list = False
        package, name = self._word.package, part.rpartition("/")[2]
        with optional(self._build, part):
            match kind:
                case "chart":
                    write_chart(package, part, self._build)
                case "diagram":
                    write_diagram(package.xml(part), self._build)
                case _:
                    self._build.attach(package.read(part), name, is_own_text=kind == "chunk")

    def _insert(self, part: str) -> None:
        self.write_part("chunk", part)

    def _write_table(self, table: Element) -> None:
        self._in_list = False
        for properties in table.iterchildren("{*}tblPr"):
            for words in properties.iterchildren("{*}tblCaption", "{*}tblDescription"):
                self._build.paragraph(attribute(words, "val"))
        rows = [row for row in _under(table, "tr") if not _is_deleted(row)]
        cells = [list(_under(row, "tc")) for row in rows]
        if max(map(len, cells), default=0) <= 1:
            # A table with one column is a frame around text.
            for row in cells:
                for cell in row:
                    self.write(cell)
            return
        pending: list[Hanging] = []
        self._build.table(self._rows(rows, cells, pending))
        for hanging in pending:
            self._write_hanging(hanging)

    def _rows(
        self, rows: Sequence[Element], cells: Sequence[Sequence[Element]], pending: list[Hanging]
    ) -> Iterator[list[str]]:
        """Yield the texts of the cells, each in its column; a merged cell has its text in each row."""
        above: dict[int, str] = {}
        for row, found in zip(rows, cells, strict=True):
            before = next((attribute(skip, "val") for skip in row.iterfind("{*}trPr/{*}gridBefore")), "")
            texts = [""] * _columns(before, 0)
            for cell in found:
                column = len(texts)
                layout = _layout(cell)
                vertical = layout.get("vMerge")
                text = "" if layout.get("hMerge") == "continue" else self._cell_text(cell, pending)
                if vertical == "continue":
                    text = above.get(column, text)
                elif vertical:
                    above[column] = text
                texts += [text, *[""] * (_columns(layout.get("gridSpan", ""), 1) - 1)]
            yield texts

    def _cell_text(self, cell: Element, pending: list[Hanging]) -> str:
        lines = (line for paragraph in _paragraphs(cell) for line in self._lines_of(paragraph, pending))
        return squeeze(" ".join(lines))


def _properties(paragraph: Element) -> tuple[str, ListPlace | None, int | None]:
    """Return a paragraph's style, what it says of a list, and the level of its heading (0 for body text)."""
    style, place, outline = "", None, None
    # They are a paragraph's first element.
    for properties in paragraph[:1]:
        for child in properties if local_name(properties) == "pPr" else ():
            match local_name(child):
                case "pStyle":
                    style = attribute(child, "val")
                case "numPr":
                    place = list_place(child)
                case "outlineLvl":
                    value = attribute(child, "val")
                    outline = int(value) + 1 if value in OUTLINE_LEVELS else 0
    return style, place, outline


def _paragraphs(container: Element) -> Iterator[Element]:
    """Yield the paragraphs in an element, also those of tables, but not those of boxes in paragraphs."""
    for child in container:
        name = local_name(child)
        if name == "p":
            yield child
        elif name not in HIDDEN and name != "Fallback":
            yield from _paragraphs(child)


def _under(element: Element, wanted: str) -> Iterator[Element]:
    """Yield the children with this name, also those inside wrappers."""
    for child in element:
        name = local_name(child)
        if name == wanted:
            yield child
        elif name in _WRAPPERS:
            yield from _under(child, wanted)


def _is_deleted(row: Element) -> bool:
    return next(row.iterfind("{*}trPr/{*}del"), None) is not None


def _layout(cell: Element) -> dict[str, str]:
    """Return what a cell says of its columns and of merging; a merge without a value continues one."""
    for properties in cell:
        if local_name(properties) == "tcPr":
            return {local_name(child): attribute(child, "val", "continue") for child in properties}
    return {}


def _columns(value: str, default: int) -> int:
    return min(int(value), _MOST_COLUMNS) if value.isdecimal() and len(value) < 9 else default  # noqa: PLR2004
