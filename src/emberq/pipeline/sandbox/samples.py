"""Small files of every format, which the reader reads before it forks.

The first file of a format costs up to 15 ms more than the next: libraries fill their caches, compile
expressions and import modules, and the interpreter rewrites the code that runs often. Children share what the
reader has done, and cannot import anything any more.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

import docx
import pptx

from emberq.errors import EmberqError

#: How often each file is read: the interpreter rewrites a function after some eight runs.
_RUNS: Final = 10

_PDF: Final = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R
/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj
4 0 obj<</Length 71>>stream
BT /F 24 Tf 50 700 Td (Title) Tj /F 12 Tf 0 -40 Td (Some words.) Tj ET
endstream endobj
trailer<</Size 5/Root 1 0 R>>
startxref
0
%%EOF"""
_MAIL: Final = b"""From: =?utf-8?q?J=C3=B6rg?= <a@example.org>
Subject: =?iso-8859-1?b?R3L832U=?=
Date: Mon, 1 Jan 2024 10:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Some words=20and a <b>few</b> more.</p>
--b
Content-Type: text/csv; name=a.csv
Content-Disposition: attachment; filename=a.csv
Content-Transfer-Encoding: base64

YSxiCjEsMgo=
--b--
"""
#: The detector of encodings reads its files of models as it first needs them; these texts need all of them.
_LEGACY_TEXTS: Final = {
    "cp1252": "Schr\u00f6dinger h\u00e4lt f\u00fcr m\u00f6glich, da\u00df es gr\u00fcn ist.\n",
    "cp852": "Hodnota mus\u00ed b\u00fdt (nyn\u00ed je). M\u00e1 m\u00edt nejv\u00fd\u0161e znak\u016f.\n",
    "koi8-r": "\u041a\u0430\u0436\u0434\u043e\u0435 \u0443\u0442\u0440\u043e.\n",
    "cp932": "\u6bce\u671d\u3001\u4f5c\u696d\u306e\u5217\u306f\u65b0\u3057\u304f.\n",
}
_OPEN: Final = "urn:oasis:names:tc:opendocument:xmlns"
_ODT: Final = {
    "mimetype": "application/vnd.oasis.opendocument.text",
    "content.xml": f'<o:document-content xmlns:o="{_OPEN}:office:1.0" xmlns:t="{_OPEN}:text:1.0" '
    f'xmlns:b="{_OPEN}:table:1.0"><o:body><o:text><t:h t:outline-level="1">Title</t:h><t:p>Words.</t:p>'
    "<t:list><t:list-item><t:p>a</t:p></t:list-item></t:list><b:table><b:table-row>"
    "<b:table-cell><t:p>a</t:p></b:table-cell><b:table-cell><t:p>b</t:p></b:table-cell>"
    "</b:table-row></b:table></o:text></o:body></o:document-content>",
}
_RTF: Final = (
    rb"{\rtf1\ansi{\fonttbl{\f0\fcharset0 Arial;}}{\stylesheet{\s1 heading 1;}}{\pard\s1 Title\par}"
    rb"Words, \'e9\u8364?\par\trowd\pard\intbl a\cell b\cell\row\pard{\pict 00}}"
)
_HTML: Final = (
    b"<html><head><title>T</title><meta name=description content=d></head><body><h1>Title</h1><p>Words"
    b"<a href='https://example.org'>a</a>.</p><ol><li>a</ol><noscript>n</noscript><img alt=b><input value=c>"
    b"<table><tr><td rowspan=2>b<td>c<tr><td>d</table><math><mi>x</mi></math></body>"
)
_NOTEBOOK: Final = (
    b'{"cells": [{"cell_type": "markdown", "source": ["# Title"]}, {"cell_type": "code", "source": "x",'
    b' "outputs": [{"data": {"text/html": "<table><tr><td>a<td>b</table>"}}]}], "nbformat": 4}'
)
_XML: Final = (
    b'<?xml version="1.0"?><!DOCTYPE article [<!ENTITY e "a">]><article><title>Title</title><para>Words &e;'
    b"<footnote><para>b</para></footnote></para><table><tr><td>c</td><td>d</td></tr></table>"
    b"<math><mfrac><mi>e</mi><mn>2</mn></mfrac></math></article>"
)
_LATEX: Final = (
    rb"\documentclass{article}\title{Title}\begin{document}\section{A}M\"uller $x$ \cite{b}."
    rb"\begin{tabular}{ll}a & b \\ c & d\end{tabular}\begin{itemize}\item e\end{itemize}\end{document}"
)
_OFFICE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml."
_SHEET: Final = {
    "[Content_Types].xml": f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_OFFICE}sheet.main+xml"/>'
    f'<Override PartName="/xl/s.xml" ContentType="{_OFFICE}worksheet+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="a" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
    'officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/_rels/workbook.xml.rels": "<Relationships "
    'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="a" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="s.xml"/>'
    "</Relationships>",
    "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
    '<sheet name="A" sheetId="1" r:id="a"/></sheets></workbook>',
    "xl/s.xml": '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    '<row r="1"><c r="A1" t="inlineStr"><is><t>word</t></is></c><c r="B1"><v>2.5</v></c></row>'
    "</sheetData></worksheet>",
}
_EPUB: Final = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="a.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>",
    "a.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml" '
    'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
    "a.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Title</h1><p>Words.</p></body></html>',
}


def read_samples(
    read: Callable[[BinaryIO, str, Callable[[int, int], None], float, float, bool], Any],
) -> list[str]:
    """Read every sample a few times.

    Args:
        read: Takes a file, its name, a function for progress, the setting file_budget, seconds for OCR, and
            whether hidden sheets and slides are read.

    Returns:
        The names of the samples that could not be read; their formats are only slower.
    """
    failed = []
    for name, data in make_samples().items():
        for _ in range(_RUNS):
            try:
                read(io.BytesIO(data), name, lambda _done, _total: None, 1.0, 0.0, True)
            except EmberqError:
                failed.append(name)
                break
    return failed


def make_samples() -> dict[str, bytes]:
    """Return the bytes of each sample by its name."""
    return {
        "a.pdf": _PDF,
        "a.docx": _make_docx(),
        "a.pptx": _make_pptx(),
        "a.xlsx": _make_zip(_SHEET),
        "a.epub": _make_zip(_EPUB),
        "a.html": _HTML,
        "a.md": b"# Title\n\nSome *words*.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n",
        "a.csv": b"name,size\na,1\nb,2\n",
        "a.txt": "Some words.\n\nNa\u00efve caf\u00e9, 5 \u20ac.\n".encode(),
        **{f"{encoding}.txt": text.encode(encoding) for encoding, text in _LEGACY_TEXTS.items()},
        "a.eml": _MAIL,
        "a.json": b'{"title": "Words", "items": [1, 2.5, null, true]}',
        "a.jsonl": b'{"a": 1}\n{"a": 2, "b": "word"}\n',
        "a.ipynb": _NOTEBOOK,
        "a.xml": _XML,
        "a.srt": b"1\n00:00:01,000 --> 00:00:02,000\n<i>Some</i> words.\n",
        "a.rst": b"Title\n=====\n\n.. note::\n\n   Some words.\n",
        "a.org": b"#+TITLE: Title\n* Heading\nSome words.\n",
        "a.tex": _LATEX,
        "a.py": b"import os\n\n\ndef f():\n    return os\n",
        "a.rtf": _RTF,
        "a.odt": _make_zip(_ODT),
        "a.zip": _make_zip({"a.txt": "Some words.\n"}),
        "a.txt.gz": gzip.compress(b"Some words.\n"),
    }


def _make_docx() -> bytes:
    document = docx.Document()
    document.add_heading("Title", 1)
    document.add_paragraph("Some words.")
    document.add_table(rows=1, cols=2).cell(0, 0).text = "a"
    return _saved(document)


def _make_pptx() -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Title"
    slide.notes_slide.notes_text_frame.text = "Said aloud."
    return _saved(presentation)


def _saved(document: Any) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def _make_zip(members: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return stream.getvalue()
