"""EPUB 3, written by hand: five small files and the chapters."""

from __future__ import annotations

from xml.sax.saxutils import escape

from corpus_sources.archives import WRITTEN, write_zip
from corpus_sources.blocks import parse, sections

__all__ = ["make_epub"]

#: The book's own title and its identifier; the source holds the chapters.
TITLE, IDENTIFIER = "The Patient Queue", "urn:uuid:5e3c1f8e-6d0b-4a57-9a57-0c1f6f0a2b11"

CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book/content.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""

PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:language>en</dc:language>
<dc:creator>emberq sample corpus</dc:creator>
<meta property="dcterms:modified">{modified}</meta>
</metadata>
<manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{items}
</manifest>
<spine>
{spine}
</spine>
</package>
"""

PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en" xml:lang="en">
<head><title>{title}</title></head>
<body>
{body}
</body>
</html>
"""


def make_epub(source: str) -> bytes:
    """Render a source as a book with one chapter for each heading of level one."""
    chapters = list(sections(parse(source), level=1))
    names = [f"chapter-{number}.xhtml" for number in range(1, len(chapters) + 1)]
    links = "\n".join(
        f'<li><a href="{name}">{escape(title)}</a></li>'
        for name, (title, _) in zip(names, chapters, strict=True)
    )
    items = "\n".join(
        f'<item id="c{number}" href="{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(names, 1)
    )
    spine = "\n".join(f'<itemref idref="c{number}"/>' for number in range(1, len(names) + 1))
    package = PACKAGE.format(
        identifier=IDENTIFIER, title=TITLE, modified=f"{WRITTEN:%Y-%m-%dT%H:%M:%SZ}", items=items, spine=spine
    )
    navigation = f'<nav epub:type="toc"><ol>\n{links}\n</ol></nav>'
    # The media type must come first, so that it can be read at a fixed place.
    members = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "book/content.opf": package,
        "book/nav.xhtml": PAGE.format(title=TITLE, body=navigation),
    }
    for name, (title, blocks) in zip(names, chapters, strict=True):
        paragraphs = "\n".join(f"<p>{escape(block.text)}</p>" for block in blocks)
        body = f"<h1>{escape(title)}</h1>\n{paragraphs}"
        members[f"book/{name}"] = PAGE.format(title=escape(title), body=body)
    return write_zip({name: text.encode() for name, text in members.items()})
