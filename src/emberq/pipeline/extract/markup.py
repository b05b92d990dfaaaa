"""HTML: all visible words in order, as headings, paragraphs, list items and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import BinaryIO, Final

from lxml import etree

from emberq.errors import CorruptFile
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.charsets import decode_declared
from emberq.pipeline.extract.decode import decode
from emberq.pipeline.extract.ooxml import Element, local_name, parse_xml

#: Elements whose content is not visible.
_SILENT: Final = frozenset({"script", "style", "noscript", "template", "title"})

_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}

#: Elements that begin and end a paragraph; all others are parts of a line.
_BLOCKS: Final = frozenset(_HEADINGS).union(
    (
        *("address", "article", "aside", "blockquote", "body", "button", "caption", "center", "dd"),
        *("details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer"),
        *("form", "head", "header", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "optgroup"),
        *("option", "p", "pre", "search", "section", "select", "summary", "table", "tbody", "td"),
        *("textarea", "tfoot", "th", "thead", "tr", "ul"),
    )
)

#: Elements that show that a table is the layout of a page, not data.
_FRAME: Final = ("table", "form", *_HEADINGS)

#: Most characters of a cell in a table of data; a table with a longer cell is layout.
_LONGEST_CELL: Final = 1000

#: Most characters of a title that are read. Headings may be nested, and each would contain all the text.
_LONGEST_TITLE: Final = 10_000

#: Bytes at the beginning in which the standard allows the encoding to be declared.
_DECLARATION: Final = 1024
_CHARSET: Final = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read an HTML file; its title becomes the first heading, unless a heading has the same words.

    Raises:
        CorruptFile: If the file cannot be parsed.
    """
    write_html(stream.read(), build, title=True)


def write_html(
    data: bytes, build: DocumentBuilder, *, charset: str | None = None, title: bool = False
) -> None:
    """Append the text of HTML or XHTML to a document.

    Args:
        data: The bytes.
        build: Takes the text.
        charset: The encoding, if the transport named it.
        title: Whether the document's title becomes a heading.

    Raises:
        CorruptFile: If the bytes cannot be parsed.
    """
    root = _parse(data, charset)
    if root is None:
        return
    if title:
        _write_title(root, build)
    _Writer(build).write(root)


def _parse(data: bytes, charset: str | None) -> Element | None:
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        # With the rules of HTML, `<title/>` or `<script/>` would contain the rest of an XHTML file.
        try:
            return parse_xml(data, name="XHTML")
        except CorruptFile:
            pass
    text = _decode(data, charset)
    if not text.strip():
        return None
    # `huge_tree`, because the parser would refuse more than 256 levels; the tree is walked without recursion.
    parser = etree.HTMLParser(
        encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.ParserError:
        root = None
    except etree.XMLSyntaxError as exc:
        if exc.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from exc
        raise CorruptFile(f"The HTML is damaged: {exc.msg}.") from exc
    # At this limit the parser stops without an exception, and the rest of the file would be missing.
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        raise CorruptFile("The HTML is damaged: its elements are nested too deeply.")
    return root


def _decode(data: bytes, charset: str | None) -> str:
    declared = _CHARSET.search(data[:_DECLARATION])
    names = [charset or "", declared[1].decode() if declared else ""]
    for name in filter(None, names):
        try:
            data.decode("utf-8")
            break
        except UnicodeDecodeError:
            pass
        # As browsers do: windows-1252 contains latin-1.
        known = "cp1252" if name.lower() in {"iso-8859-1", "latin1", "us-ascii"} else name
        if (text := decode_declared(data, known)) is not None:
            return text.replace("\0", "")
    return decode(data).replace("\0", "")


def _write_title(root: Element, build: DocumentBuilder) -> None:
    title = next(root.iter("{*}title", "title"), None)
    if title is None:
        return
    text = _short_text(title)
    if not any(_short_text(heading) == text for heading in root.iter("{*}h1", "h1")):
        build.heading(text, 1)


def _short_text(element: Element) -> str:
    """Return the text of an element on one line; of a very long text, the beginning."""
    pieces: list[str] = []
    length = 0
    for piece in element.itertext():
        pieces.append(piece[:_LONGEST_TITLE])
        length += len(piece)
        if length > _LONGEST_TITLE:
            break
    return squeeze("".join(pieces))


class _Writer:
    """Walks a tree without recursion, and appends a paragraph at each border of a block."""

    def __init__(self, build: DocumentBuilder) -> None:
        self._build = build
        self._pieces: list[str] = []
        self._level = 0
        self._item = False
        self._preformatted = 0

    def write(self, root: Element) -> None:
        """Append the text of an element."""
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            if event == "end":
                self._end(element)
            elif self._start(element):
                walk.skip_subtree()
        self._flush()

    def _start(self, element: Element) -> bool:
        """Begin an element; return whether its content is dealt with."""
        name = local_name(element).lower()
        if name in _SILENT:
            return True
        if name == "table" and (rows := _data_rows(element)):
            self._flush()
            self._build.table(rows)
            return True
        if name == "br":
            self._pieces.append("\n")
        elif name in _BLOCKS:
            self._flush()
            self._level = _HEADINGS.get(name, self._level)
            self._item = name == "li"
            self._preformatted += name in {"pre", "textarea"}
        self._add(element.text)
        return False

    def _end(self, element: Element) -> None:
        name = local_name(element).lower()
        if not name and isinstance(element, etree._Entity):  # noqa: SLF001 - lxml has no other name for it
            self._pieces.append(html.unescape(element.text))
        elif name in _BLOCKS:
            self._flush()
            self._level = 0 if name in _HEADINGS else self._level
            self._preformatted -= name in {"pre", "textarea"}
        self._add(element.tail)

    def _add(self, text: str | None) -> None:
        if text:
            self._pieces.append(text if self._preformatted else re.sub(r"\s+", " ", text))

    def _flush(self) -> None:
        if not self._pieces:
            return
        text = "".join(self._pieces)
        self._pieces.clear()
        if not self._preformatted:
            text = "\n".join(squeeze(line) for line in text.split("\n"))
        if not text.strip():
            return
        if self._level:
            self._build.heading(text, self._level)
        elif self._item:
            self._build.paragraph(f"- {text.strip()}", tight=True)
        else:
            self._build.paragraph(text)
        self._item = False


def _data_rows(table: Element) -> list[list[str]]:
    """Return the cells of a table of data; an empty list if the table is layout."""
    has_caption = False
    for element in table.iterdescendants(etree.Element):
        name = local_name(element).lower()
        # At the first one: tables may be nested, and each would be searched to its end.
        if name in _FRAME:
            return []
        has_caption |= name == "caption"
    rows = [
        [_cell_text(cell) for cell in row if local_name(cell).lower() in {"td", "th"}]
        for row in table.iter("{*}tr", "tr")
    ]
    if has_caption:
        rows[:0] = [[_cell_text(caption)] for caption in table.iter("{*}caption", "caption")]
    cells = [cell for row in rows for cell in row]
    if max(map(len, rows), default=0) < 2 or max(map(len, cells)) > _LONGEST_CELL:  # noqa: PLR2004 - a pair
        return []
    return rows


def _cell_text(cell: Element) -> str:
    """Return the text of a cell on one line; of a text that is too long for a cell, the beginning."""
    pieces: list[str] = []
    length = 0
    walk = etree.iterwalk(cell, events=("start", "end"))
    for event, element in walk:
        name = local_name(element).lower()
        if event == "start":
            if name in _SILENT:
                walk.skip_subtree()
                continue
            gap, text = " " if name in _BLOCKS or name == "br" else "", element.text or ""
        elif element is not cell:
            gap, text = " " if name in _BLOCKS else "", element.tail or ""
        else:
            continue
        pieces += (gap, text)
        length += len(squeeze(text))
        if length > _LONGEST_CELL:
            break
    return squeeze("".join(pieces))
