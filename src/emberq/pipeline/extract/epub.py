"""EPUB: the chapters, which are XHTML, in the reading order of the spine."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import BinaryIO, Final
from urllib.parse import unquote
from zipfile import ZipFile

from emberq.errors import CorruptFile, EncryptedFile
from emberq.pipeline.extract.archive import open_archive, read_member
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.limits import Meter
from emberq.pipeline.extract.markup import write_html
from emberq.pipeline.extract.ooxml import attribute, parse_xml

_CONTAINER: Final = "META-INF/container.xml"
_ENCRYPTION: Final = "META-INF/encryption.xml"

#: Algorithms that only obfuscate embedded fonts; any other algorithm encrypts the text.
_FONT_ALGORITHMS: Final = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})

_CHAPTERS: Final = frozenset({"application/xhtml+xml", "text/html"})


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a book; its pages are the items of the spine.

    Returns:
        The number of items.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If its chapters are encrypted.
    """
    with open_archive(stream, build.meter) as archive:
        _check_rights(archive, build.meter)
        chapters = _spine(archive, build.meter)
        for number, chapter in enumerate(chapters, 1):
            build.page = number
            write_html(read_member(archive, chapter, build.meter), build)
            progress(number, len(chapters))
    return len(chapters)


def _check_rights(archive: ZipFile, meter: Meter) -> None:
    if _ENCRYPTION not in archive.namelist():
        return
    root = parse_xml(read_member(archive, _ENCRYPTION, meter), name=_ENCRYPTION)
    methods = root.iterfind(".//{*}EncryptedData/{*}EncryptionMethod")
    if any(attribute(method, "Algorithm") not in _FONT_ALGORITHMS for method in methods):
        raise EncryptedFile("The book is encrypted (digital rights management).")


def _spine(archive: ZipFile, meter: Meter) -> list[str]:
    """Return the names of the chapters in reading order."""
    container = parse_xml(read_member(archive, _CONTAINER, meter), name=_CONTAINER)
    package = next((attribute(root, "full-path") for root in container.iter("{*}rootfile")), "")
    if not package:
        raise CorruptFile("The book is damaged: it does not name its package file.")
    root = parse_xml(read_member(archive, package, meter), name=package)
    items = {
        attribute(item, "id"): posixpath.normpath(
            posixpath.join(posixpath.dirname(package), unquote(attribute(item, "href")))
        )
        for item in root.iter("{*}item")
        if attribute(item, "media-type") in _CHAPTERS
    }
    order = [attribute(reference, "idref") for reference in root.iter("{*}itemref")]
    # Each chapter once: a small hostile file could name its largest chapter a million times.
    return list(dict.fromkeys(items[identity] for identity in order if identity in items))
