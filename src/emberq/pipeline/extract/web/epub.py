"""EPUB: the book's title and authors, then its chapters in the reading order of the spine."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import BinaryIO, Final
from urllib.parse import unquote
from zipfile import ZipFile

from emberq.errors import CorruptFile, EncryptedFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.extract.builder import DocumentBuilder, squeeze
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.office.ooxml import Element, attribute, parse_xml
from emberq.pipeline.extract.packed.archive import open_archive, read_member
from emberq.pipeline.extract.web.html_meta import short_text
from emberq.pipeline.extract.web.html_parse import Html, parse_html
from emberq.pipeline.extract.web.markup import write_html, write_parsed

_CONTAINER: Final = "META-INF/container.xml"
_ENCRYPTION: Final = "META-INF/encryption.xml"

#: Algorithms that only obfuscate embedded fonts; any other algorithm encrypts the text.
_FONT_ALGORITHMS: Final = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})

_CHAPTERS: Final = frozenset(
    {"application/xhtml+xml", "text/html", "image/svg+xml", "application/x-dtbook+xml"}
)
_TABLES_OF_CONTENTS: Final = ("application/xhtml+xml", "application/x-dtbncx+xml")

#: The fields of a book's metadata that are read after its title, and the word before each.
_FIELDS: Final = {
    "creator": "Author: ",
    "contributor": "Contributor: ",
    "publisher": "Publisher: ",
    "date": "Date: ",
    "subject": "Keywords: ",
}

#: Most characters of a title or name.
_LONGEST: Final = 1000


class _Book:
    """The package of a book: what it says about itself, its chapters, and their titles."""

    def __init__(self, archive: ZipFile, meter: Meter) -> None:
        self._archive = archive
        self._meter = meter
        container = self._xml(_CONTAINER)
        self._package = next((attribute(root, "full-path") for root in container.iter("{*}rootfile")), "")
        if not self._package:
            raise CorruptFile("The book is damaged: it does not name its package file.")
        self.root = self._xml(self._package)
        self._items = {attribute(item, "id"): item for item in self.root.iter("{*}item")}

    def read(self, name: str) -> bytes:
        return read_member(self._archive, name, self._meter)

    def _xml(self, name: str) -> Element:
        return parse_xml(self.read(name), name=name)

    def chapters(self) -> list[str]:
        """Return the names of the chapters in reading order, those beside it where the spine has them."""
        order = [self._items.get(attribute(item, "idref")) for item in self.root.iter("{*}itemref")]
        items = [item for item in order if item is not None and attribute(item, "media-type") in _CHAPTERS]
        # Each chapter once: a small hostile file could name its largest chapter a million times.
        return list(dict.fromkeys(_target(self._package, attribute(item, "href")) for item in items))

    def titles(self) -> dict[str, str]:
        """Return the titles of chapters, by their names, from the first table of contents that has some."""
        spines = self.root.iter("{*}spine")
        ncx = self._items.get(next((attribute(spine, "toc") for spine in spines), ""))
        navs = [item for item in self._items.values() if "nav" in attribute(item, "properties").split()]
        for item in (*navs[:1], ncx):
            if item is None or attribute(item, "media-type") not in _TABLES_OF_CONTENTS:
                continue
            name = _target(self._package, attribute(item, "href"))
            try:
                if titles := _titles(self._xml(name), name):
                    return titles
            except CorruptFile:
                continue
        return {}


def _target(source: str, href: str) -> str:
    """Return the name of the member that a member links to, without the place inside it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(href.partition("#")[0])))


def _titles(root: Element, name: str) -> dict[str, str]:
    """Return the first title of each file in a table of contents, of EPUB 3 or 2."""
    titles: dict[str, str] = {}
    for nav in root.iter("{*}nav"):
        if attribute(nav, "type") in {"", "toc"}:
            for link in nav.iter("{*}a"):
                titles.setdefault(_target(name, attribute(link, "href")), short_text(link)[:_LONGEST])
            break
    for point in root.iter("{*}navPoint"):
        label = point.find("{*}navLabel")
        content = point.find("{*}content")
        if label is not None and content is not None:
            titles.setdefault(_target(name, attribute(content, "src")), short_text(label)[:_LONGEST])
    return titles


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a book; its pages are the items of the spine.

    A chapter that is damaged or missing is left out, with a warning, if another one can be read.

    Returns:
        The number of items.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If its chapters are encrypted.
    """
    with open_archive(stream, build.meter) as archive:
        _check_rights(archive, build.meter)
        book = _Book(archive, build.meter)
        chapters = book.chapters()
        titles = book.titles()
        writer = _Writer(build, book.root)
        damaged: list[str] = []
        for number, chapter in enumerate(chapters, 1):
            build.page = number
            try:
                writer.write(book.read(chapter), titles.get(chapter, ""))
            except CorruptFile:
                damaged.append(chapter)
                if len(damaged) == len(chapters):
                    raise
            progress(number, len(chapters))
    if damaged:
        build.warn(WarningCode.PART_UNREADABLE, *damaged)
    if writer.pictures:
        build.warn(WarningCode.IMAGES_SKIPPED, count=writer.pictures)
    return len(chapters)


def _check_rights(archive: ZipFile, meter: Meter) -> None:
    if _ENCRYPTION not in archive.namelist():
        return
    root = parse_xml(read_member(archive, _ENCRYPTION, meter), name=_ENCRYPTION)
    methods = root.iterfind(".//{*}EncryptedData/{*}EncryptionMethod")
    if any(attribute(method, "Algorithm") not in _FONT_ALGORITHMS for method in methods):
        raise EncryptedFile("The book is encrypted (digital rights management).")


class _Writer:
    """Writes the chapters of a book, and what the book says about itself before the first one with text.

    Attributes:
        pictures: How many pictures have no text.
    """

    def __init__(self, build: DocumentBuilder, package: Element) -> None:
        self.pictures = 0
        self._build = build
        self._metadata = next(package.iter("{*}metadata"), None)
        self._title = ": ".join(self._values("title"))
        self._has_begun = False
        #: The titles of the book and of its chapters, each of which is written once.
        self._said = {self._title, *self._values("title")}

    def write(self, data: bytes, title: str) -> None:
        """Append a chapter, below the book's title.

        Args:
            data: Its XHTML.
            title: Its title in the table of contents, which becomes its heading unless it has it already.
        """
        parsed = parse_html(data, xml=True)
        if parsed is None:
            return
        part = self._build.begin_part()
        self.pictures += write_parsed(parsed, part)
        if part.is_blank:
            return
        if not self._has_begun:
            self._has_begun = True
            self._begin()
        deeper = 1 if self._title else 0
        for words in self._new_titles(parsed, squeeze(title)):
            self._build.heading(words, 1 + deeper)
        self._build.insert(part.build(""), deeper=deeper)

    def _begin(self) -> None:
        """Append what the book says about itself."""
        self._build.heading(self._title, 1)
        lines = ((before, ", ".join(dict.fromkeys(self._values(name)))) for name, before in _FIELDS.items())
        self._build.paragraph("\n".join(before + words for before, words in lines if words))
        for text in self._values("description"):
            # Many programs write HTML into it.
            write_html(text.encode(), self._build)

    def _values(self, name: str) -> list[str]:
        found = [] if self._metadata is None else self._metadata.iter(f"{{*}}{name}")
        return [text for element in found if (text := short_text(element))]

    def _new_titles(self, parsed: Html, title: str) -> list[str]:
        """Return the titles of a chapter that neither its headings nor earlier chapters have."""
        page_title = parsed.root.find("{*}head/{*}title")
        titles = [title, "" if page_title is None else short_text(page_title)[:_LONGEST]]
        titles = [words for words in dict.fromkeys(titles) if words and words not in self._said]
        if titles:
            self._said.update(titles)
            headings = [short_text(heading) for heading in parsed.root.iter("{*}h1", "{*}h2", "{*}h3")]
            titles = [words for words in titles if not any(words in heading for heading in headings)]
        return titles
