"""Excel workbooks (XLSX): sheets as they are shown, with their comments, charts, links and headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.errors import CorruptFile
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.office.drawingml import optional, write_drawing
from emberq.pipeline.extract.office.ooxml import Element, Package, attribute, local_name
from emberq.pipeline.extract.office.properties import write_properties
from emberq.pipeline.extract.sheets.sheet_rows import Merged, table_rows
from emberq.pipeline.extract.sheets.xlsx_cells import (
    CellReader,
    Items,
    cell_position,
    parse_styles,
    read_strings,
)

#: Codes in a page's header: parts, fonts, sizes and colours, and what the program fills in.
_HEADER_CODE: Final = re.compile(r'&(?:"[^"]*"|K[0-9A-F+-]{6}|[0-9]{1,3}|[LCRPNDTFAGZBIUESXYOHpndt])')

#: Names that programs give to new sheets.
_DEFAULT_NAME: Final = re.compile(
    r"(?:Sheet|Tabelle|Feuil|Hoja|Foglio|Blad|Planilha|Plan|Arkusz|List|Ark|Munka|Лист|Chart|Diagramm)\s?[0-9]*"
)

#: The states of sheets that are not shown.
_HIDDEN: Final = frozenset({"hidden", "veryHidden"})

#: Most characters of a cell's text beside a link or comment: many may name one cell with a long text.
_LONGEST_LABEL: Final = 100

#: Most characters of a link's target.
_LONGEST_TARGET: Final = 500


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a workbook; its pages are the sheets, and their names are headings.

    Returns:
        The number of sheets.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If a part is protected by a password.
    """
    package = Package(stream, build.meter)
    main = package.main_part()
    book = package.xml(main)
    links = package.relationships(main)
    sheets = [sheet for sheet in book.iter("{*}sheet") if local_name(sheet.getparent()) == "sheets"]
    if not sheets:
        raise CorruptFile("The workbook is damaged: it has no sheets.")
    cells = _cell_reader(package, main, book)
    seen: set[str] = set()
    empty: list[tuple[int, str]] = []
    for number, sheet in enumerate(sheets, 1):
        if attribute(sheet, "state") in _HIDDEN and not build.meter.limits.hidden:
            continue
        name = attribute(sheet, "name")
        link = links.get(attribute(sheet, "id"))
        if link is None:
            raise CorruptFile(f"The workbook is damaged: the sheet {name} is missing.")
        build.page = number
        build.heading(name, 1, if_followed=True)
        # Each part once: a small hostile file could name its largest sheet a million times.
        if link.part not in seen:
            _Sheet(package, link.part, cells, build).write()
        if build.drop_heading() and not _DEFAULT_NAME.fullmatch(name):
            empty.append((number, name))
        seen.add(link.part)
        progress(number, len(sheets))
    for number, name in empty if not build.is_blank else ():
        build.page = number
        build.paragraph(name)
    write_properties(package, build)
    return len(sheets)


def _cell_reader(package: Package, main: str, book: Element) -> CellReader:
    strings: list[str] = []
    for part in package.linked(main, "sharedStrings"):
        strings = read_strings(package.read(part), part)
    codes: list[str] = []
    for part in package.linked(main, "styles"):
        codes = parse_styles(package.xml(part))
    date1904 = any(attribute(pr, "date1904") in {"1", "true"} for pr in book.iterchildren("{*}workbookPr"))
    return CellReader(strings, codes, date1904=date1904)


class _Sheet:
    """One sheet, which becomes a heading, a table, and what lies beside it."""

    def __init__(self, package: Package, part: str, cells: CellReader, build: DocumentBuilder) -> None:
        self._package = package
        self._part = part
        self._cells = cells
        self._build = build
        #: The text of the cells, by row and column.
        self._texts: dict[int, dict[int, str]] = {}

    def write(self) -> None:
        """Write the sheet."""
        items = Items(self._package.read(self._part), name=self._part, container="sheetData")
        root = items.rest
        self._build.paragraph(_page_texts(root, "Header"))
        rows = list(self._cells.rows(items))
        self._texts = dict(rows)
        self._build.table(table_rows(rows, _merged(root)))
        self._build.paragraph("\n".join(self._links(root)))
        with optional(self._build, f"comments of {self._part}"):
            self._build.paragraph("\n".join(self._comments()))
        for drawing in self._package.linked(self._part, "drawing"):
            with optional(self._build, drawing):
                write_drawing(self._package, drawing, self._build)
        for embedded in self._package.linked(self._part, "package", "oleObject"):
            with optional(self._build, embedded):
                self._build.attach(self._package.read(embedded), embedded.rpartition("/")[2])
        self._build.paragraph(_page_texts(root, "Footer"))

    def _links(self, root: Element) -> Iterator[str]:
        targets = self._package.targets(self._part)
        for link in root.iter("{*}hyperlink"):
            target = targets.get(attribute(link, "id"), "")
            reference = attribute(link, "ref").partition(":")[0]
            text = self._text_at(reference)
            if target and len(target) <= _LONGEST_TARGET and target not in text:
                yield f"{text or reference}: {target}"

    def _text_at(self, reference: str) -> str:
        position = cell_position(reference)
        text = self._texts.get(position[0], {}).get(position[1], "") if position else ""
        return text[:_LONGEST_LABEL]

    def _comments(self) -> Iterator[str]:
        threads = list(self._package.linked(self._part, "threadedComment"))
        if threads:
            people = self._people()
            for part in threads:
                for comment in self._package.xml(part).iter("{*}threadedComment"):
                    text = "".join(piece.text or "" for piece in comment.iterchildren("{*}text"))
                    author = people.get(attribute(comment, "personId"), "")
                    yield self._comment(attribute(comment, "ref"), author, text)
            return
        for part in self._package.linked(self._part, "comments"):
            root = self._package.xml(part)
            authors = [author.text or "" for author in root.iter("{*}author")]
            for comment in root.iter("{*}comment"):
                number = attribute(comment, "authorId")
                at = int(number) if number.isdecimal() and len(number) < 7 else -1  # noqa: PLR2004 - any number
                author = authors[at] if 0 <= at < len(authors) else ""
                text = "".join(piece.text or "" for piece in comment.iter("{*}t"))
                # Excel begins a note with the name of its author.
                yield self._comment(attribute(comment, "ref"), author, text.removeprefix(f"{author}:"))

    def _comment(self, reference: str, author: str, text: str) -> str:
        by = f" by {author}" if author else ""
        about = self._text_at(reference)
        cell = f"{reference} ({about})" if about else reference
        return f"Comment{by} on {cell}: {squeeze(text)}" if text.strip() else ""

    def _people(self) -> dict[str, str]:
        """Return the names of those who wrote comments."""
        main = self._package.main_part()
        return {
            attribute(person, "id"): attribute(person, "displayName")
            for part in self._package.linked(main, "person")
            for person in self._package.xml(part)
        }


def _page_texts(root: Element, kind: str) -> str:
    """Return the words of a sheet's headers or footers on paper, each once."""
    texts = [
        squeeze(_HEADER_CODE.sub(" ", (element.text or "").replace("&&", "\0")).replace("\0", "&"))
        for element in root.iter(f"{{*}}odd{kind}", f"{{*}}even{kind}", f"{{*}}first{kind}")
    ]
    return "\n".join(dict.fromkeys(texts))


def _merged(root: Element) -> list[Merged]:
    """Return the ranges of merged cells that cover several rows."""
    ranges: list[Merged] = []
    for cell in root.iter("{*}mergeCell"):
        start, _, end = attribute(cell, "ref").partition(":")
        first, last = cell_position(start), cell_position(end)
        if first and last and last[0] > first[0]:
            ranges.append(Merged(first[0], last[0], first[1]))
    return ranges
