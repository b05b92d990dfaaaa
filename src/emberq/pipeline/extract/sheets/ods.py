"""OpenDocument workbooks (ODS): the texts of cells, which the file holds as they are shown."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from lxml import etree

from emberq.errors import CorruptFile, EncryptedFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.ooxml import SAFE, Element, attribute, local_name, parse_xml
from emberq.pipeline.extract.office.properties import write_values
from emberq.pipeline.extract.packed.archive import open_archive, read_member
from emberq.pipeline.extract.sheets.sheet_rows import Merged, Row, table_rows
from emberq.pipeline.extract.sheets.xlsx_cells import column_letters

_MANIFEST: Final = "META-INF/manifest.xml"

#: How often a row or cell with a value is written that the file says to repeat; the rest says nothing new.
_MOST_REPEATS: Final = 100
#: The last row and column of a sheet.
_LAST: Final = 2**24

#: Most characters of a cell's text beside a link or comment.
_LONGEST_LABEL: Final = 100

#: The elements that are read once they have ended.
_TAGS: Final = tuple(
    f"{{*}}{name}" for name in ("style", "table-row", "table", "frame", "spreadsheet", "tracked-changes")
)

#: Three groups of digits: a complete date.
_COMPLETE_DATE: Final = re.compile(r"\D*\d+\D+\d+\D+\d+")

#: What each property is called in files of other formats.
_PROPERTIES: Final = {
    "title": "title",
    "creator": "creator",
    "subject": "subject",
    "keyword": "keywords",
    "description": "description",
}


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a workbook; its pages are the sheets, and their names are headings.

    Returns:
        The number of sheets.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If the file is protected by a password.
    """
    with open_archive(stream, build.meter) as archive:
        names = frozenset(archive.namelist())
        if _MANIFEST in names and b"encryption-data" in read_member(archive, _MANIFEST, build.meter):
            raise EncryptedFile("The workbook is protected by a password.")
        content = read_member(archive, "content.xml", build.meter)

        def part(name: str) -> Element | None:
            return parse_xml(read_member(archive, name, build.meter), name=name) if name in names else None

        count = _Book(part, build, progress).write(content)
        _write_properties(part("meta.xml"), build)
    return count


def _write_properties(meta: Element | None, build: DocumentBuilder) -> None:
    values: dict[str, str] = {}
    for element in meta.iter("{*}*") if meta is not None else ():
        if (name := _PROPERTIES.get(local_name(element))) and (text := squeeze(element.text or "")):
            values[name] = f"{values[name]}, {text}" if name == "keywords" and name in values else text
    write_values(values, build)


class _Book:
    """Writes the sheets of a workbook while its content is parsed; a row that was read is forgotten."""

    def __init__(
        self,
        part: Callable[[str], Element | None],
        build: DocumentBuilder,
        progress: Callable[[int, int], None],
    ) -> None:
        self._part = part
        self._build = build
        self._progress = progress
        self._sheets = 0
        self._is_book = False
        self._shown: set[str] = set()
        self._hidden_styles: set[str] = set()
        self._begin_sheet()

    def _begin_sheet(self) -> None:
        self._number = 1
        self._rows: list[Row] = []
        self._merged: list[Merged] = []
        self._notes: list[str] = []
        self._charts: list[str] = []

    def write(self, content: bytes) -> int:
        """Write all sheets and return their number.

        Raises:
            CorruptFile: If the content is not well-formed, or no workbook.
        """
        try:
            for _, element in etree.iterparse(io.BytesIO(content), events=("end",), tag=_TAGS, **SAFE):
                self._read(element)
        except etree.XMLSyntaxError as exc:
            if exc.code == etree.ErrorTypes.ERR_NO_MEMORY:
                raise MemoryError from exc
            raise CorruptFile(f"The workbook is damaged: {exc.msg}.") from exc
        if not self._is_book or not self._sheets:
            raise CorruptFile("The workbook is damaged: it has no sheets.")
        return self._sheets

    def _read(self, element: Element) -> None:
        """Read an element that has ended, and forget what is in it."""
        match local_name(element):
            case "style":
                if _is_hidden(element):
                    self._hidden_styles.add(attribute(element, "name"))
            case "table-row":
                self._read_row(element)
                element.clear()
            case "frame" if next(element.iterancestors("{*}table-row"), None) is None:
                self._read_frame(element)
                element.clear()
            case "table" if local_name(element.getparent()) == "spreadsheet":
                self._write_sheet(element)
                element.clear()
            case "tracked-changes":
                # What was deleted has rows too.
                self._begin_sheet()
            case "spreadsheet":
                self._is_book = True

    def _write_sheet(self, table: Element) -> None:
        self._sheets += 1
        if attribute(table, "style-name") in self._hidden_styles and not self._build.meter.limits.hidden:
            self._begin_sheet()
            return
        self._build.page = self._sheets
        self._build.heading(attribute(table, "name"), 1, if_followed=True)
        self._build.table(table_rows(self._rows, self._merged))
        self._build.paragraph("\n".join(self._notes))
        for chart in self._charts:
            self._write_chart(chart)
        self._build.drop_heading()
        self._progress(self._sheets, self._sheets)
        self._begin_sheet()

    def _read_row(self, row: Element) -> None:
        values: dict[int, str] = {}
        column = 0
        for cell in row:
            name = local_name(cell)
            if name not in {"table-cell", "covered-table-cell"}:
                continue
            repeats = _count(cell, "number-columns-repeated")
            if len(cell) and name == "table-cell":
                text = self._read_cell(cell, column)
                for at in range(column, column + min(repeats, _MOST_REPEATS) if text else column):
                    values[at] = text
            column += repeats
        repeats = _count(row, "number-rows-repeated")
        if values:
            # The rows may name one long text in many cells.
            self._build.meter.expect_text(sum(map(len, values.values())))
            self._rows += ((self._number + at, values) for at in range(min(repeats, _MOST_REPEATS)))
        self._number += repeats

    def _read_cell(self, cell: Element, column: int) -> str:
        text = squeeze(" ".join(_text(line) for line in cell.iterchildren("{*}p")))
        date = attribute(cell, "date-value")
        if date and _COMPLETE_DATE.match(text):
            text = date.replace("T", " ").removesuffix(" 00:00:00")
        rows = _count(cell, "number-rows-spanned")
        if rows > 1:
            self._merged.append(Merged(self._number, self._number + rows - 1, column))
        for child in cell:
            if local_name(child) == "annotation":
                self._read_note(child, f"{column_letters(column)}{self._number}", text)
        for link in cell.iterfind("{*}p/{*}a"):
            if (target := attribute(link, "href")) and not target.startswith("#") and target not in text:
                self._notes.append(f"{text[:_LONGEST_LABEL]}: {target}")
        for frame in cell.iter("{*}frame"):
            self._read_frame(frame)
        return text

    def _read_note(self, note: Element, cell: str, text: str) -> None:
        author = squeeze(" ".join(name.text or "" for name in note.iterchildren("{*}creator")))
        words = squeeze(" ".join(_text(line) for line in note.iterchildren("{*}p")))
        about = f"{cell} ({text[:_LONGEST_LABEL]})" if text else cell
        if words:
            self._notes.append(f"Comment{f' by {author}' if author else ''} on {about}: {words}")

    def _read_frame(self, frame: Element) -> None:
        """Keep what lies on the sheet: a chart, a box with text, or a picture with its description."""
        described = squeeze(
            " ".join("".join(child.itertext()) for child in frame.iterchildren("{*}title", "{*}desc"))
        )
        charts = [attribute(child, "href") for child in frame.iterchildren("{*}object")]
        lines = [_text(line) for box in frame.iterchildren("{*}text-box") for line in box.iter("{*}p")]
        self._charts += filter(None, charts)
        self._notes += filter(None, [described, *lines])
        if not described and not charts and not lines:
            self._build.warn(WarningCode.IMAGES_SKIPPED)

    def _write_chart(self, reference: str) -> None:
        """Write an embedded chart, once: its titles, then its table."""
        name = f"{reference.removeprefix('./')}/content.xml"
        if name in self._shown:
            return
        self._shown.add(name)
        root = self._part(name)
        for chart in root.iter("{*}chart") if root is not None else ():
            titles = (_text(line) for title in chart.iter("{*}title", "{*}subtitle") for line in title)
            self._build.paragraph("\n".join(titles))
            for table in chart.iterchildren("{*}table"):
                rows = ([_cell_text(cell) for cell in row] for row in table.iter("{*}table-row"))
                self._build.table(rows)


def _is_hidden(style: Element) -> bool:
    """Return whether the sheets of a style are not shown."""
    return any(attribute(each, "display") == "false" for each in style.iterchildren("{*}table-properties"))


def _cell_text(cell: Element) -> str:
    return squeeze(" ".join(_text(line) for line in cell.iterchildren("{*}p")))


def _text(line: Element) -> str:
    return "".join(_pieces(line))


def _pieces(element: Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        match local_name(child):
            case "s" | "tab" | "line-break":
                yield " "
            case "annotation" | "ruby-text" | "frame":
                pass
            case _:
                yield from _pieces(child)
        yield child.tail or ""


def _count(element: Element, name: str) -> int:
    """Return how often an element stands, or how many rows it covers."""
    text = attribute(element, name, "1")
    return min(int(text), _LAST) if text.isdecimal() and len(text) < 9 else 1  # noqa: PLR2004 - beyond any sheet
