"""Builds real files of every format for tests; each function returns the file's bytes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Final, TypeAlias

import docx
import openpyxl
import pptx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from ebooklib import epub
from pptx.util import Inches
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

from emberq.pipeline.document import Document
from emberq.pipeline.extract.read import extract
from tests.harness.open_document import make_odp, make_odt
from tests.harness.outlook import OutlookItem, make_msg, make_tnef
from tests.harness.powerpoint_binary import Slide, make_ppt
from tests.harness.word_binary import Mark, make_doc

__all__ = [
    "CALENDAR",
    "CSV",
    "DOCBOOK",
    "EVERY_FORMAT",
    "HTML",
    "JSON",
    "MARKDOWN",
    "NOTEBOOK",
    "PNG",
    "RTF",
    "TEXT",
    "Maker",
    "extract_bytes",
    "lock_members",
    "make_bomb",
    "make_docx",
    "make_epub",
    "make_mail",
    "make_mailbox",
    "make_ole",
    "make_pdf",
    "make_pptx",
    "make_scan",
    "make_tar",
    "make_web_archive",
    "make_xlsx",
    "make_zip",
    "open_zip",
    "replace_members",
]

#: Builds a file's bytes.
Maker: TypeAlias = Callable[[], bytes]

TEXT: Final = "First paragraph, line one.\nLine two.\n\nSecond paragraph: naïve café, 5 €.\n".encode()

MARKDOWN: Final = b"""# Guide

Some *text* with a [link](https://example.org).

## Install

```sh
# not a heading
pip install thing
```

| name | size |
|------|------|
| a    | 1    |

Setext
======

- one
- two
"""

CSV: Final = "name;city;age\nMüller;Köln;41\nJosé;Cádiz;37\nÅse;Tromsø;29\n".encode()

JSON: Final = json.dumps(
    [
        {"name": "Ada", "tags": ["math", "engines"], "born": 1815},
        {"name": "Grace", "note": "line one\nline two", "rank": {"title": "Admiral"}},
    ],
    indent=2,
).encode()

RTF: Final = rb"""{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}}
{\stylesheet{\s1 heading 1;}}{\header Head\par}{\pard\s1 Title\par}
\pard Some words \u8364? and {\b more}.{\footnote noted}\par
\trowd\cellx100\cellx200\pard\intbl Gr\'f6\'dfe\cell 3\cell\row\pard{\pict 00}end\par}
"""

NOTEBOOK: Final = json.dumps(
    {"cells": [{"cell_type": "markdown", "source": ["# Title\n", "Words in a cell."]}], "nbformat": 4}
).encode()

DOCBOOK: Final = b"""<?xml version="1.0"?><book xmlns="http://docbook.org/ns/docbook"><title>The Book</title>
<chapter><title>One</title><para>Words in a <emphasis>paragraph</emphasis>.</para></chapter></book>"""

HTML: Final = b"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>The title</title><style>p { color: red }</style>
<script>var hidden = "no text";</script></head>
<body><nav><a href="/">Home</a></nav>
<h1>Heading one</h1><p>A <b>bold</b>
 paragraph &amp; more.<br>After the break.</p>
<h2>Heading two</h2><ul><li>first item</li><li>second item</li></ul>
<table><tr><th>name</th><th>size</th></tr><tr><td>a</td><td>1</td></tr></table>
<pre>kept   as
  it is</pre><template>unseen</template>
</body></html>
"""


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG: Final = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\0"))
    + _chunk(b"IEND", b"")
)


def make_pdf(*pages: Sequence[str], password: str | None = None) -> bytes:
    """Set one page per sequence; a text that begins with `# ` is a heading."""
    styles = getSampleStyleSheet()
    flow = []
    for page in pages or (
        ["# Report", "The first paragraph. " * 20, "The second paragraph. " * 20],
        ["Page two."],
    ):
        for text in page:
            heading = text.startswith("# ")
            flow.append(Paragraph(text.removeprefix("# "), styles["Heading1" if heading else "BodyText"]))
        flow.append(PageBreak())
    target = io.BytesIO()
    encryption = None if password is None else StandardEncryption(password, "owner", canPrint=0)
    SimpleDocTemplate(target, pagesize=A4, encrypt=encryption).build(flow)
    return target.getvalue()


def make_scan(pages: int = 2) -> bytes:
    """Return pages with a picture and no text."""
    target = io.BytesIO()
    canvas = Canvas(target, pagesize=A4)
    for _ in range(pages):
        canvas.drawImage(ImageReader(io.BytesIO(PNG)), 50, 50, 300, 500)
        canvas.showPage()
    canvas.save()
    return target.getvalue()


def make_docx() -> bytes:
    """Write headings, paragraphs, a table, a header, a footer, a text box and a tracked change."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "The header"
    document.sections[0].footer.paragraphs[0].text = "The footer"
    document.add_heading("Guide", 1)
    document.add_paragraph("Before the table.")
    table = document.add_table(rows=2, cols=3)
    for row, texts in zip(table.rows, (("name", "size", "unit"), ("a", "1", "kg")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    document.add_heading("Install", 2)
    paragraph = document.add_paragraph("After the ")
    paragraph.add_run("table.").bold = True
    paragraph._p.append(parse_xml(f"<w:del {nsdecls('w')}><w:r><w:delText>gone</w:delText></w:r></w:del>"))
    paragraph._p.append(
        parse_xml(f"<w:ins {nsdecls('w')}><w:r><w:t xml:space='preserve'> Added.</w:t></w:r></w:ins>")
    )
    box = f"<w:txbxContent {nsdecls('w')}><w:p><w:r><w:t>In the box</w:t></w:r></w:p></w:txbxContent>"
    compatible = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    paragraph._p.append(
        parse_xml(
            f"<w:r {nsdecls('w')}><mc:AlternateContent {compatible}>"
            f"<mc:Choice Requires='wps'>{box}</mc:Choice>"
            f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
        )
    )
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def make_pptx() -> bytes:
    """Write two slides: a title with text, a table and notes; a group with a shape."""
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "First slide"
    slide.placeholders[1].text = "Point one\nPoint two"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(4), Inches(4), Inches(1)).table
    for row, texts in enumerate((("name", "size"), ("a", "1"))):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    slide.notes_slide.notes_text_frame.text = "Said aloud"
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Second slide"
    group = second.shapes.add_group_shape()
    box = group.shapes.add_textbox(Inches(1), Inches(1), Inches(2), Inches(1))
    box.text_frame.text = "In the group"
    target = io.BytesIO()
    deck.save(target)
    return target.getvalue()


def make_xlsx(rows: Sequence[Sequence[object]] = (("name", "size"), ("a", 1), ("b", 2.5))) -> bytes:
    """Write a sheet of rows and a second, `Other`, with one value."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.title = "Sizes"
    for row in rows:
        sheet.append(list(row))
    book.create_sheet("Other")["B3"] = "alone"
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def make_epub() -> bytes:
    """Write a book of two chapters, whose spine is not in the order of their names."""
    book = epub.EpubBook()
    book.set_identifier("id")
    book.set_title("The Book")
    book.set_language("en")
    chapters = []
    for number, name in ((1, "z.xhtml"), (2, "a.xhtml")):
        chapter = epub.EpubHtml(title=f"Chapter {number}", file_name=name)
        chapter.content = f"<h1>Chapter {number}</h1><p>Text&nbsp;of chapter {number}.</p>"
        book.add_item(chapter)
        chapters.append(chapter)
    book.add_item(epub.EpubNcx())
    book.add_item(epub.EpubNav())
    book.spine = chapters
    target = io.BytesIO()
    epub.write_epub(target, book)
    return target.getvalue()


def make_mail(*attachments: tuple[str, str, bytes]) -> bytes:
    """Write a mail with a plain and an HTML body; an attachment is (name, media type, bytes)."""
    message = EmailMessage()
    message["Subject"] = "Größe der Lieferung"
    message["From"] = "Zoë <zoe@example.org>"
    message["To"] = "bob@example.org"
    message["Date"] = "Mon, 01 Jan 2024 10:00:00 +0000"
    message.set_content("The plain body.\n")
    message.add_alternative("<p>The <b>rich</b> body.</p>", subtype="html")
    for name, media_type, data in attachments:
        main, _, sub = media_type.partition("/")
        message.add_attachment(data, maintype=main, subtype=sub, filename=name)
    return message.as_bytes()


CALENDAR: Final = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
SUMMARY:Betriebsausflug
DTSTART;VALUE=DATE:20260601
DTEND;VALUE=DATE:20260603
LOCATION:Köln
END:VEVENT
BEGIN:VTODO
SUMMARY:Bericht
DUE:20260605T170000Z
STATUS:NEEDS-ACTION
END:VTODO
END:VCALENDAR
""".encode()


def make_mailbox() -> bytes:
    """Write a mailbox of three mails: a real one, one without a subject, and a plain one."""
    separator = b"From bob@example.org Mon Mar  2 10:00:00 2026\n"
    mails = (make_mail(), b"From: a@b\nTo: c@d\n\nNo subject.\n", b"From: a@b\nSubject: Lager\n\nThe last.\n")
    return b"\n".join(separator + mail for mail in mails)


def make_web_archive() -> bytes:
    """Save a page with a frame, a style sheet and a picture, as browsers do."""
    page = "<html><head><title>Lagerordnung</title></head><body><h1>Lagerordnung</h1>"
    page += "<p>Stapler f\u00fchren nur Befugte.</p><img src='https://example.org/a.png'></body></html>"
    parts = (
        ("text/html; charset=utf-8", page.encode()),
        ("text/css", b"body { color: red }"),
        ("image/png", PNG),
        ("text/html", b"<html><body><p>In the frame.</p></body></html>"),
    )
    archive = b"From: <Saved by Blink>\r\nSnapshot-Content-Location: https://example.org/\r\n"
    archive += (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/related; type="text/html"; boundary="--b"\r\n\r\n'
    )
    for number, (kind, data) in enumerate(parts):
        archive += f"----b\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n".encode()
        archive += f"Content-Location: https://example.org/{number}\r\n\r\n".encode() + base64.encodebytes(
            data
        )
    return archive + b"----b--\r\n"


def make_zip(**members: bytes) -> bytes:
    """Write a plain archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def make_tar(members: Mapping[str, bytes]) -> bytes:
    """Write a TAR archive."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def replace_members(container: bytes, changed: Mapping[str, bytes]) -> bytes:
    """Copy a zip container with some members replaced or added."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(container)) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in old.namelist():
            if name not in changed:
                archive.writestr(name, old.read(name))
        for name, data in changed.items():
            archive.writestr(name, data)
    return target.getvalue()


def open_zip(container: bytes) -> zipfile.ZipFile:
    """Open a container's bytes for reading."""
    return zipfile.ZipFile(io.BytesIO(container))


def lock_members(container: bytes) -> bytes:
    """Set the flag of every member that says a password protects it."""
    data = bytearray(container)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    return bytes(data)


def extract_bytes(data: bytes, media_type: str) -> Document:
    """Extract bytes that are in no file yet."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return extract(Path(file.name), media_type=media_type)


def make_ole(*names: str) -> bytes:
    """Write a compound file whose root holds empty streams of these names, three at most."""
    free, end, table = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    header = struct.pack(
        "<8s16x5H6x9I109I",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        *(0x3E, 3, 0xFFFE, 9, 6),
        *(0, 1, 1, 0, 4096, end, 0, end, 0),
        *(0, *[free] * 108),
    )
    sectors = struct.pack("<128I", table, end, *[free] * 126)
    entries = [("Root Entry", 5, free, 1 if names else free)]
    entries += [(name, 2, at if at <= len(names) else free, free) for at, name in enumerate(names, 2)]
    for name, kind, right, child in entries:
        encoded = (name + "\0").encode("utf-16-le")
        sectors += struct.pack(
            "<64sHBBIII16xI8x8xIQ", encoded, len(encoded), kind, 1, free, right, child, 0, end, 0
        )
    return header + sectors.ljust(1024, b"\0")


def make_bomb(size: int = 101 << 20) -> bytes:
    """Take a Word file and let one part of it unpack to `size` zeros."""
    target = io.BytesIO(make_docx())
    with (
        zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/more.xml", "w") as part,
    ):
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            part.write(block)
    return target.getvalue()


def _make_odt() -> bytes:
    row = "".join(
        f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in ("chapter", "2")
    )
    return make_odt(
        '<text:h text:outline-level="1">Title</text:h><text:p>Some words.<text:note><text:note-body>'
        "<text:p>Noted.</text:p></text:note-body></text:note></text:p><text:list><text:list-item>"
        "<text:p>item</text:p></text:list-item></text:list>"
        f"<table:table><table:table-row>{row}</table:table-row></table:table>"
    )


def _make_odp() -> bytes:
    return make_odp(
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>Title</text:p>'
        "</draw:text-box></draw:frame><presentation:notes><draw:frame><draw:text-box>"
        "<text:p>Said aloud.</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
    )


#: The members of archives.
_DOCUMENTS: Final = {"notes/a.txt": TEXT, "notes/b.csv": CSV, "guide.md": MARKDOWN}

_ITEM: Final = OutlookItem(
    {0x1A: "IPM.Note", 0x37: "Lager", 0x42: "Zoë", 0x1000: "Die Körbe sind da."},
    attachments=({0x3707: "a.csv", 0x3701: CSV},),
)

#: Media type, a builder and a word that the text must hold.
EVERY_FORMAT: Final[dict[str, tuple[Maker, str]]] = {
    "application/pdf": (make_pdf, "second paragraph"),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (
        make_docx,
        "After the table.",
    ),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": (make_pptx, "Said aloud"),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": (make_xlsx, "b | 2.5"),
    "application/epub+zip": (make_epub, "Text of chapter 2."),
    "text/html": (lambda: HTML, "paragraph & more."),
    "text/markdown": (lambda: MARKDOWN, "pip install thing"),
    "text/csv": (lambda: CSV, "José | Cádiz | 37"),
    "text/plain": (lambda: TEXT, "naïve café"),
    "message/rfc822": (make_mail, "The rich body."),
    "application/mbox": (make_mailbox, "The last."),
    "multipart/related": (make_web_archive, "Stapler führen"),
    "application/vnd.ms-outlook": (lambda: make_msg(_ITEM), "Die Körbe"),
    "application/vnd.ms-tnef": (lambda: make_tnef(_ITEM), "Die Körbe"),
    "text/calendar": (lambda: CALENDAR, "Betriebsausflug"),
    "application/json": (lambda: JSON, "rank.title: Admiral"),
    "application/x-ndjson": (lambda: b'{"a": 1}\n{"a": 2, "b": "word"}\n', "b: word"),
    "application/x-ipynb+json": (lambda: NOTEBOOK, "in a cell"),
    "application/xml": (lambda: b"<?xml version='1.0'?><a><b c='d'>e</b></a>", "b (c d): e"),
    "application/docbook+xml": (lambda: DOCBOOK, "in a paragraph"),
    "text/vtt": (lambda: b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ada>Said aloud\n", "[00:00:01] Ada: Said"),
    "application/x-subrip": (lambda: b"1\n00:00:01,000 --> 00:00:02,000\nSaid aloud\n", "Said aloud"),
    "text/x-rst": (lambda: b"Title\n=====\n\n.. note::\n\n   Not seen.\n", "Not seen."),
    "text/org": (lambda: b"#+TITLE: Plans\n* First\nSome words.\n", "Some words."),
    "text/x-tex": (
        lambda: b"\\documentclass{a}\n\\begin{document}Set by \\TeX.\\end{document}",
        "Set by TeX.",
    ),
    "text/x-source": (lambda: b"#!/bin/sh\n\necho words\n", "echo words"),
    "application/vnd.oasis.opendocument.text": (_make_odt, "chapter | 2"),
    "application/vnd.oasis.opendocument.presentation": (_make_odp, "Said aloud."),
    "application/msword": (
        lambda: make_doc([Mark("Title\r", 1), Mark("Words, größer.\r")]),
        "Words, größer.",
    ),
    "application/vnd.ms-powerpoint": (
        lambda: make_ppt(Slide([(0, "Title")], [(4, "Words, größer.")], "Said aloud.")),
        "Said aloud.",
    ),
    "application/rtf": (lambda: RTF, "Größe | 3"),
    "application/zip": (lambda: make_zip(**_DOCUMENTS), "naïve café"),
    "application/x-tar": (lambda: make_tar(_DOCUMENTS), "José | Cádiz | 37"),
    "application/gzip": (lambda: gzip.compress(make_tar(_DOCUMENTS)), "pip install thing"),
}
