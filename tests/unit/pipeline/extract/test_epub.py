"""Books are read with their title, the titles of their chapters, and all that is in their spine."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

from emberq.errors import CorruptFile, NoTextFound
from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness.sample_files import open_zip
from tests.hostile.kinds import zip_members

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="O/p.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
METADATA = """<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Winter Quarters</dc:title>
<dc:creator>Ada Lem</dc:creator><dc:creator>Bo Krug</dc:creator><dc:publisher>Ice Press</dc:publisher>
<dc:subject>whales</dc:subject>
<dc:description>&lt;p&gt;A &lt;b&gt;cold&lt;/b&gt; story.&lt;/p&gt;</dc:description></metadata>"""
NAV = """<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>
<nav epub:type="landmarks"><a href="1.xhtml">Begin reading</a></nav>
<nav epub:type="toc"><ol><li><a href="1.xhtml">The Harbour</a>
<ol><li><a href="1.xhtml#b">A part</a></li></ol></li>
<li><a href="c%202.xhtml#top">The Ice</a></li></ol></nav></body></html>"""
NCX = """<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint>
<navLabel><text>The Harbour</text></navLabel>
<content src="1.xhtml"/><navPoint><navLabel><text>The Ice</text></navLabel>
<content src="c%202.xhtml"/></navPoint>
</navPoint></navMap></ncx>"""


def chapter(body: str, title: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"'
        ' xmlns:epub="http://www.idpf.org/2007/ops">'
        f"<head><title>{title}</title></head><body>{body}</body></html>"
    )


def package(*, nav: bool = True, ncx: bool = False, metadata: str = METADATA) -> str:
    return (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="3.0">{metadata}<manifest>'
        '<item id="c1" href="1.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="c2" href="c%202.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="s" href="s.svg" media-type="image/svg+xml"/>'
        + '<item id="n" href="n.xhtml" properties="nav" media-type="application/xhtml+xml"/>' * nav
        + '<item id="x" href="t.ncx" media-type="application/x-dtbncx+xml"/>' * ncx
        + f'</manifest><spine{" toc=" + chr(34) + "x" + chr(34) if ncx else ""}><itemref idref="c1"/>'
        '<itemref idref="s"/><itemref idref="c2" linear="no"/></spine></package>'
    )


def book(changed: Mapping[str, str | bytes] = {}, **options: bool | str) -> bytes:
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "O/p.opf": package(**options),  # type: ignore[arg-type]
        "O/n.xhtml": NAV,
        "O/t.ncx": NCX,
        "O/1.xhtml": chapter(
            '<p>At sea<a epub:type="noteref" href="#n">1</a>.</p><img src="a" alt="A map"/>'
        ),
        "O/c 2.xhtml": chapter("<h1>II. The Ice</h1><p>No way out.</p><img src='b'/>", "Winter Quarters"),
        "O/s.svg": '<svg xmlns="http://www.w3.org/2000/svg"><text>Drawn</text></svg>',
    }
    members.update(changed)
    return zip_members(
        {name: text.encode() if isinstance(text, str) else text for name, text in members.items()}
    )


def read(data: bytes) -> Document:
    stream = io.BytesIO(data)
    assert detect_stream(stream) == media.EPUB
    return extract_stream(stream, media_type=media.EPUB)


def pieces(document: Document) -> list[tuple[str, int, int | None]]:
    return [(document.text[part.start : part.end], part.level, part.page) for part in document.segments]


@pytest.mark.parametrize("nav", [True, False], ids=["epub3", "epub2"])
def test_a_book_has_its_title_its_author_and_the_titles_of_its_chapters(nav: bool) -> None:
    document = read(book(nav=nav, ncx=not nav))

    assert pieces(document) == [
        ("Winter Quarters", 1, 1),
        ("Author: Ada Lem, Bo Krug\nPublisher: Ice Press\nKeywords: whales", 0, 1),
        ("A cold story.", 0, 1),
        ("The Harbour", 2, 1),
        ("At sea[1].", 0, 1),
        ("A map", 0, 1),
        ("Drawn", 0, 2),
        ("II. The Ice", 2, 3),
        ("No way out.", 0, 3),
    ]
    assert document.page_count == 3
    assert document.warnings == (FileWarning(WarningCode.IMAGES_SKIPPED),)


def test_the_title_of_a_page_is_the_heading_of_a_chapter_without_one() -> None:
    document = read(book({"O/1.xhtml": chapter("<p>At sea.</p>", "Setting out")}, nav=False, metadata=""))

    assert pieces(document)[:2] == [("Setting out", 1, 1), ("At sea.", 0, 1)]


def damaged(data: bytes, *words: bytes) -> bytes:
    """Return a container in which some stored members do not have their checksums."""
    for word in words:
        assert word in data
        data = data.replace(word, word.swapcase())
    return data


def stored(changed: Mapping[str, str | bytes] = {}) -> bytes:
    with open_zip(book(changed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zip_members(members, method=0)


def test_a_damaged_chapter_is_left_out_with_a_warning() -> None:
    document = read(damaged(stored(), b"At sea"))

    assert "No way out." in document.text
    assert "sea" not in document.text.casefold()
    assert FileWarning(WarningCode.PART_UNREADABLE, 1, ("O/1.xhtml",)) in document.warnings


def test_a_missing_chapter_is_left_out_with_a_warning() -> None:
    members = {"O/p.opf": package().replace("1.xhtml", "3.xhtml")}

    assert FileWarning(WarningCode.PART_UNREADABLE, 1, ("O/3.xhtml",)) in read(book(members)).warnings


def test_a_book_whose_chapters_are_all_damaged_is_corrupt() -> None:
    with pytest.raises(CorruptFile):
        read(damaged(stored(), b"At sea", b"No way", b"Drawn"))


def test_a_book_of_pictures_has_no_text_though_it_has_a_title() -> None:
    pictures = {"O/1.xhtml": chapter("<img src='a'/>"), "O/c 2.xhtml": chapter("<img src='b'/>")}

    with pytest.raises(NoTextFound):
        read(book({**pictures, "O/s.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>'}))


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252"])
def test_chapters_are_read_in_their_encoding(encoding: str) -> None:
    text = chapter("<p>größer</p>").replace("utf-8", encoding)

    assert "größer" in read(book({"O/1.xhtml": text.encode(encoding)})).text


def test_a_damaged_table_of_contents_costs_only_its_titles() -> None:
    document = read(book({"O/n.xhtml": "<nav <"}))

    assert "At sea" in document.text
    assert "The Harbour" not in document.text
