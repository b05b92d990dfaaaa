"""Hostile Office files, workbooks, books and compound files."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial

from tests.harness import sample_files
from tests.hostile.kinds import HostileFile, make_package, zip_members

_MIB = 1 << 20
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
_SLIDES = (
    f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" {_DRAWING}'
    ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)
_SHEETS = (
    'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)


def archive_files() -> Iterator[HostileFile]:
    """Yield the files; packed, each is at most a few mebibytes."""
    yield from _containers()
    yield from _word()
    yield from _slides()
    yield from _workbooks()
    yield from _books()
    yield from _compound()


def _containers() -> Iterator[HostileFile]:
    yield HostileFile("bomb-part.docx", lambda: sample_files.make_bomb(101 * _MIB), "archive_bomb")
    yield HostileFile("bomb-body.docx", lambda: _bomb_body(120 * _MIB), "archive_bomb")
    yield HostileFile("bomb-many.docx", _many_bombs, "archive_bomb")
    yield HostileFile("bomb-lying.docx", lambda: understate(_bomb_body(120 * _MIB), "word/document.xml"))
    yield HostileFile("bomb-lying.xlsx", lambda: understate(_bomb_sheet(120 * _MIB), "xl/worksheets/s.xml"))
    yield HostileFile("bomb-sheet.xlsx", lambda: _bomb_sheet(120 * _MIB), "archive_bomb")
    yield HostileFile("bomb-types.docx", lambda: _bomb_member("[Content_Types].xml"), "archive_bomb")
    yield HostileFile(
        "bomb-mimetype.epub", lambda: zip_members({"mimetype": bytes(120 * _MIB)}), "archive_bomb"
    )
    yield HostileFile(
        "members.docx", lambda: zip_members({f"m{n}": b"" for n in range(10_001)}), "archive_bomb"
    )
    yield HostileFile("members-types.docx", _many_members, "archive_bomb")
    yield HostileFile("overlapping.docx", _overlapping)
    yield HostileFile("twice.docx", _twice)
    yield HostileFile("bzip2.docx", lambda: _packed(zipfile.ZIP_BZIP2))
    yield HostileFile("lzma.docx", lambda: _packed(zipfile.ZIP_LZMA))
    yield HostileFile(
        "locked.docx", lambda: sample_files.lock_members(sample_files.make_docx()), "encrypted_file"
    )
    yield HostileFile("empty.zip", lambda: zip_members({}))
    yield HostileFile("paths.docx", _path_names, "document")
    yield HostileFile("comment.docx", lambda: sample_files.make_docx() + b"x" * 60_000)


def _bomb_body(size: int) -> bytes:
    body = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>".encode() + b" " * size
    return _document(body + b"</w:t></w:r></w:p></w:body></w:document>")


def _document(body: bytes, **more: bytes) -> bytes:
    links = {f"r{number}": (kind, f"{kind}.xml") for number, kind in enumerate(more, 1)}
    members = {"word/document.xml": body, **{f"word/{kind}.xml": data for kind, data in more.items()}}
    return make_package(
        "word/document.xml", "wordprocessingml.document", members, {"word/document.xml": links}
    )


def _many_bombs() -> bytes:
    body = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>"
    notes = f"<w:footnotes {_WORD}>".encode() + b" " * (90 * _MIB) + b"</w:footnotes>"
    return _document(body.encode(), header=notes, footnotes=notes, endnotes=notes, footer=notes)


def understate(container: bytes, name: str) -> bytes:
    """Return the container with a member's unpacked size written as 100 bytes."""
    data = bytearray(container)
    for signature, size_at, name_at in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        at = data.find(signature)
        while at >= 0:
            if data[at + name_at : at + name_at + len(name)] == name.encode():
                data[at + size_at : at + size_at + 4] = struct.pack("<I", 100)
            at = data.find(signature, at + 4)
    return bytes(data)


def _bomb_member(name: str) -> bytes:
    return sample_files.replace_members(sample_files.make_docx(), {name: b" " * (120 * _MIB)})


def _many_members() -> bytes:
    return sample_files.replace_members(
        sample_files.make_docx(), {f"word/media/{n}.xml": b"" for n in range(10_001)}
    )


def _overlapping() -> bytes:
    """Return a document whose directory names one member's bytes under many names."""
    data = sample_files.make_docx()
    start = data.find(b"PK\x01\x02")
    end = data.find(b"PK\x05\x06")
    record = data[start : data.find(b"PK\x01\x02", start + 4)]
    directory = data[start:end] + record * 9000
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9010, 9010, len(directory), start, 0)
    return data[:start] + directory + tail


def _twice() -> bytes:
    data = sample_files.make_docx()
    return data + data


def _packed(method: int) -> bytes:
    with sample_files.open_zip(sample_files.make_docx()) as archive:
        return zip_members({name: archive.read(name) for name in archive.namelist()}, method=method)


def _path_names() -> bytes:
    return sample_files.replace_members(
        sample_files.make_docx(),
        {"../../etc/passwd": b"x", "/tmp/x": b"x", "word/\u202e\n.xml": b"x", "c:\\x": b"x"},
    )


def _word() -> Iterator[HostileFile]:
    body = f"<w:document {_WORD}><w:body>%s</w:body></w:document>"
    paragraph = "<w:p><w:r><w:t>a</w:t></w:r></w:p>"
    boxes = "<w:p><w:r><w:txbxContent>"
    nests = {
        "tables": ("<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>"),
        "boxes": (boxes, "</w:txbxContent></w:r></w:p>"),
        "controls": ("<w:sdt><w:sdtContent>", "</w:sdtContent></w:sdt>"),
        "runs": ("<w:p><w:r>", "</w:r></w:p>"),
        "cells": ("<w:tbl><w:tr><w:tc><w:p/></w:tc><w:tc>", "</w:tc></w:tr></w:tbl>"),
    }
    for name, (opening, closing) in nests.items():
        for depth in (60, 5000):
            inner = opening * depth + paragraph * 2000 + closing * depth
            yield HostileFile(f"{name}-{depth}.docx", partial(_document, (body % inner).encode()))
    yield HostileFile("paragraphs.docx", lambda: _document((body % (paragraph * 400_000)).encode()))
    heading = '<w:p><w:pPr><w:outlineLvl w:val="0"/></w:pPr><w:r><w:t>a</w:t></w:r></w:p>'
    yield HostileFile("headings.docx", lambda: _document((body % (heading * 200_000)).encode()))
    text = "<w:p><w:r><w:t>%s</w:t></w:r></w:p>"
    marks = text % ("a" + "\u0301\u0323" * 200_000)
    yield HostileFile("marks.docx", lambda: _document((body % marks).encode()))
    yield HostileFile(
        "split-marks.docx",
        lambda: _document(
            (body % ("<w:p>" + "<w:r><w:t>\u0301\u0323</w:t></w:r>" * 100_000 + "</w:p>")).encode()
        ),
    )
    long = text % ("word " * 200_000)
    yield HostileFile("long-word.docx", lambda: _document((body % long).encode()))
    yield HostileFile(
        "columns.docx",
        lambda: _document(
            (body % ("<w:tbl><w:tr>" + f"<w:tc>{paragraph}</w:tc>" * 100_000 + "</w:tr></w:tbl>")).encode()
        ),
    )
    yield HostileFile("styles.docx", _style_chain)
    yield HostileFile("relationships.docx", _many_relationships)
    yield HostileFile("self.docx", _self_link)
    yield HostileFile("no-main.docx", lambda: make_package("word/none.xml", "wordprocessingml.document", {}))
    yield HostileFile("entities.docx", lambda: _document(_entities()), "corrupt_file")
    yield HostileFile("not-xml.docx", lambda: _document(b"\0" * 1000), "corrupt_file")
    yield HostileFile("namespaces.docx", lambda: _document(_namespaces()))


def _style_chain() -> bytes:
    styles = "".join(
        f'<w:style w:styleId="s{n}"><w:basedOn w:val="s{n + 1}"/></w:style>' for n in range(8000)
    )
    cycle = '<w:style w:styleId="s8000"><w:basedOn w:val="s0"/></w:style>'
    body = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>"
    return _document(body.encode(), styles=f"<w:styles {_WORD}>{styles}{cycle}</w:styles>".encode())


def _many_relationships() -> bytes:
    body = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>".encode()
    header = f"<w:hdr {_WORD}><w:p><w:r><w:t>{'head ' * 100_000}</w:t></w:r></w:p></w:hdr>".encode()
    links = {f"r{n}": ("header", f"{'../word/' * (n % 50)}header.xml") for n in range(5000)}
    return make_package(
        "word/document.xml",
        "wordprocessingml.document",
        {"word/document.xml": body, "word/header.xml": header},
        {"word/document.xml": links},
    )


def _self_link() -> bytes:
    body = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>".encode()
    links = {f"r{n}": (kind, "document.xml") for n, kind in enumerate(("header", "footnotes", "styles"))}
    return make_package(
        "word/document.xml",
        "wordprocessingml.document",
        {"word/document.xml": body},
        {"word/document.xml": links},
    )


def _entities() -> bytes:
    levels = "".join(f'<!ENTITY e{n} "' + f"&e{n - 1};" * 10 + '">' for n in range(1, 10))
    return (
        f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "boom">{levels}]>'
        f"<w:document {_WORD}><w:body><w:p><w:r><w:t>&e9;</w:t></w:r></w:p></w:body></w:document>&"
    ).encode()


def _namespaces() -> bytes:
    declared = " ".join(f'xmlns:n{n}="urn:{n}"' for n in range(20_000))
    return f"<w:document {_WORD} {declared}><w:body><w:p/></w:body></w:document>".encode()


def _slides() -> Iterator[HostileFile]:
    shape = "<p:sp><p:txBody><a:p><a:r><a:t>a few words</a:t></a:r></a:p></p:txBody></p:sp>"
    note = f"<p:notes {_SLIDES}>" + shape * 60_000 + "</p:notes>"
    yield HostileFile("shared-notes.pptx", lambda: _deck(40, notes=note.encode()))
    diagram = f"<a:d {_DRAWING}>" + "<a:p><a:r><a:t>words</a:t></a:r></a:p>" * 100_000 + "</a:d>"
    yield HostileFile("shared-diagram.pptx", lambda: _deck(200, diagrams=diagram.encode()))
    blank = f"<p:notes {_SLIDES}>" + "<p:sp/>" * 300_000 + "</p:notes>"
    yield HostileFile("shared-blank-notes.pptx", lambda: _deck(300, notes=blank.encode()))
    yield HostileFile("slides.pptx", lambda: _deck(8000))
    yield HostileFile("same-slide.pptx", lambda: _deck(1, repeat=50_000))
    yield HostileFile("groups.pptx", lambda: _slide("<p:grpSp>" * 5000 + shape))
    yield HostileFile(
        "nested-shapes.pptx",
        lambda: _slide(
            "<p:sp><p:txBody><a:p>" * 80
            + "<a:r><a:t>word</a:t></a:r>" * 20_000
            + "</a:p></p:txBody></p:sp>" * 80
        ),
    )
    yield HostileFile(
        "nested-tables.pptx",
        lambda: _slide(
            "<a:tbl><a:tr><a:tc>" * 80
            + "<a:p><a:r><a:t>word</a:t></a:r></a:p>" * 20_000
            + "</a:tc></a:tr></a:tbl>" * 80
        ),
    )


def _deck(
    slides: int, *, notes: bytes = b"", diagrams: bytes = b"", repeat: int = 1, tree: str = ""
) -> bytes:
    shape = "<p:sp><p:txBody><a:p><a:r><a:t>slide</a:t></a:r></a:p></p:txBody></p:sp>"
    slide = f"<p:sld {_SLIDES}>{tree or shape}</p:sld>".encode()
    names = [f"ppt/slides/slide{n}.xml" for n in range(slides)]
    ids = "".join(f'<p:sldId r:id="r{n}"/>' for n in range(slides)) * repeat
    members = {
        "ppt/presentation.xml": f"<p:presentation {_SLIDES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>".encode(),
        **dict.fromkeys(names, slide),
    }
    links = {"ppt/presentation.xml": {f"r{n}": ("slide", f"/{name}") for n, name in enumerate(names)}}
    shared = {}
    if notes:
        members["ppt/notes.xml"] = notes
        shared["n"] = ("notesSlide", "/ppt/notes.xml")
    if diagrams:
        members["ppt/diagram.xml"] = diagrams
        shared["d"] = ("diagramData", "/ppt/diagram.xml")
    if shared:
        links.update(dict.fromkeys(names, shared))
    return make_package("ppt/presentation.xml", "presentationml.presentation", members, links)


def _slide(tree: str) -> bytes:
    return _deck(1, tree=tree)


def _workbooks() -> Iterator[HostileFile]:
    string_cells = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(1, 301))
    for size, name in ((5 * _MIB, "shared-string"), (100_000, "shared-string-small")):
        strings = f"<sst {_SHEETS}><si><t>{'a' * size}</t></si></sst>".encode()
        yield HostileFile(f"{name}.xlsx", partial(_workbook, string_cells, strings=strings))
    run = "\u0301\u0323" * 100_000
    marks = f"<sst {_SHEETS}><si><t>a{run}</t></si></sst>".encode()
    yield HostileFile("marks.xlsx", lambda: _workbook(string_cells, strings=marks))
    for reference in ("XFD1048576", "Z1048576", "AZ1048576", "XFD1", "A1048576"):
        cells = f'<row r="1"><c r="A1"><v>1</v></c></row><row><c r="{reference}"><v>2</v></c></row>'
        yield HostileFile(f"far-{reference}.xlsx", partial(_workbook, cells))
    merged = '<row r="1"><c r="A1"><v>1</v></c></row></sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells><sheetData>'
    yield HostileFile("merged.xlsx", lambda: _workbook(merged))
    yield HostileFile("cells.xlsx", lambda: _workbook(_rows(20_000, 40)))
    yield HostileFile(
        "bad-reference.xlsx", lambda: _workbook('<row><c r="ZZZZZZZZ99999999999"><v>1</v></c></row>')
    )
    yield HostileFile(
        "bad-index.xlsx", lambda: _workbook('<row r="1"><c r="A1" t="s"><v>99999999</v></c></row>')
    )
    dimension = (
        '<row r="1"><c r="A1"><v>1</v></c></row></sheetData><dimension ref="A1:XFD1048576"/><sheetData>'
    )
    yield HostileFile("dimension.xlsx", lambda: _workbook(dimension))
    yield HostileFile(
        "dates.xlsx",
        lambda: _workbook(
            "".join(
                f'<row r="{n}"><c r="A{n}" t="d"><v>9999-99-99T99:99:99</v></c></row>' for n in range(1, 999)
            )
        ),
    )
    yield HostileFile("sheets.xlsx", lambda: _many_sheets(2000))
    yield HostileFile("same-sheet.xlsx", lambda: _many_sheets(2000, same=True))
    yield HostileFile("entities.xlsx", lambda: _workbook("", strings=_entities()))
    yield HostileFile("no-sheets.xlsx", lambda: _many_sheets(0))
    for repeated in ("table:number-columns-repeated", "table:number-rows-repeated"):
        yield HostileFile(f"{repeated[13:]}.ods", partial(_open_sheet, repeated))
    yield HostileFile("bomb.ods", lambda: _open_bomb(), "archive_bomb")


def _workbook(rows: str, *, strings: bytes = b"") -> bytes:
    sheet = f"<worksheet {_SHEETS}><sheetData>{rows}</sheetData></worksheet>".encode()
    return _book({"s": sheet}, [("One", "s")], strings=strings)


def _book(sheets: Mapping[str, bytes], names: list[tuple[str, str]], *, strings: bytes = b"") -> bytes:
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="s{n}"/>' for n, (name, _) in enumerate(names, 1)
    )
    members = {
        "xl/workbook.xml": f"<workbook {_SHEETS}><sheets>{listed}</sheets></workbook>".encode(),
        **{f"xl/worksheets/{part}.xml": data for part, data in sheets.items()},
    }
    links = {f"s{n}": ("worksheet", f"worksheets/{part}.xml") for n, (_, part) in enumerate(names, 1)}
    if strings:
        members["xl/sharedStrings.xml"] = strings
        links["t"] = ("sharedStrings", "sharedStrings.xml")
    return make_package("xl/workbook.xml", "spreadsheetml.sheet", members, {"xl/workbook.xml": links})


def _bomb_sheet(size: int) -> bytes:
    sheet = f"<worksheet {_SHEETS}><sheetData>".encode() + b" " * size + b"</sheetData></worksheet>"
    return _book({"s": sheet}, [("One", "s")])


def _rows(rows: int, columns: int) -> str:
    row = "".join("<c><v>1</v></c>" for _ in range(columns))
    return f"<row>{row}</row>" * rows


def _many_sheets(count: int, *, same: bool = False) -> bytes:
    sheet = f"<worksheet {_SHEETS}><sheetData>{_rows(200, 20) if same else _rows(1, 1)}</sheetData></worksheet>".encode()
    parts = {"s0": sheet} if same else {f"s{n}": sheet for n in range(count)}
    return _book(parts, [(f"n{n}", "s0" if same else f"s{n}") for n in range(count)])


def _open_sheet(repeated: str) -> bytes:
    inner = (
        f'<table:table-row {repeated if "rows" in repeated else "x"}="1000000">'
        f'<table:table-cell {repeated if "columns" in repeated else "x"}="16000" office:value-type="string">'
        "<text:p>a</text:p></table:table-cell></table:table-row>"
    )
    return _open_document(inner)


def _open_document(inner: str) -> bytes:
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    content = (
        f"<office:document-content {names}><office:body><office:spreadsheet>"
        f'<table:table table:name="One">{inner}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    return zip_members(
        {
            "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": content.encode(),
            "META-INF/manifest.xml": b'<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        }
    )


def _open_bomb() -> bytes:
    return _open_document(" " * (120 * _MIB))


def _books() -> Iterator[HostileFile]:
    chapter = b"<html xmlns='http://www.w3.org/1999/xhtml'><body><p>%s</p></body></html>"
    long = chapter % (b"word " * 400_000)
    yield HostileFile("spine-same.epub", lambda: _book_of({"a.xhtml": long}, ["c0"] * 100_000))
    yield HostileFile("spine-names.epub", lambda: _renamed_chapter(long, 3000))
    yield HostileFile(
        "spine-blank.epub", lambda: _renamed_chapter(b"<html>" + b"<b/>" * 500_000 + b"</html>", 3000)
    )
    yield HostileFile("chapters.epub", lambda: _book_of({f"{n}.xhtml": chapter % b"a" for n in range(9000)}))
    yield HostileFile("bomb.epub", lambda: _book_of({"a.xhtml": b" " * 120 * _MIB}), "archive_bomb")
    yield HostileFile("missing.epub", lambda: _book_of({}, ["c0"]))
    yield HostileFile("paths.epub", lambda: _book_of({"../../../etc/passwd": chapter % b"words"}))
    yield HostileFile("locked.epub", _locked_book, "encrypted_file")
    yield HostileFile(
        "no-container.epub", lambda: zip_members({"mimetype": b"application/epub+zip"}), "corrupt_file"
    )


def _book_of(
    chapters: Mapping[str, bytes], spine: list[str] | None = None, hrefs: Mapping[str, str] | None = None
) -> bytes:
    items = hrefs or {f"c{n}": name for n, name in enumerate(chapters)}
    manifest = "".join(
        f'<item id="{identity}" href="{href}" media-type="application/xhtml+xml"/>'
        for identity, href in items.items()
    )
    order = "".join(f'<itemref idref="{identity}"/>' for identity in (spine or items))
    return zip_members(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": b'<container><rootfiles><rootfile full-path="OPS/p.opf"/></rootfiles></container>',
            "OPS/p.opf": f"<package><manifest>{manifest}</manifest><spine>{order}</spine></package>".encode(),
            **{f"OPS/{name}": data for name, data in chapters.items()},
        }
    )


def _renamed_chapter(chapter: bytes, count: int) -> bytes:
    """Return a book that names one chapter in many ways."""
    return _book_of({"a.xhtml": chapter}, hrefs={f"c{n}": f"{'./' * n}a.xhtml" for n in range(count)})


def _locked_book() -> bytes:
    return sample_files.replace_members(
        _book_of({"a.xhtml": b"<p>a</p>"}),
        {
            "META-INF/encryption.xml": b'<e><EncryptedData><EncryptionMethod Algorithm="urn:aes"/></EncryptedData></e>'
        },
    )


def _compound() -> Iterator[HostileFile]:
    yield HostileFile("word.doc", lambda: sample_files.make_ole("WordDocument"), "corrupt_file")
    yield HostileFile(
        "locked-package.docx", lambda: sample_files.make_ole("EncryptedPackage"), "encrypted_file"
    )
    yield HostileFile("no-stream.xls", lambda: sample_files.make_ole("Workbook"))
    yield HostileFile("directory-cycle.xls", _directory_cycle)
    yield HostileFile("table-cycle.xls", lambda: _table_cycle())
    yield HostileFile("header-only.xls", lambda: sample_files.make_ole("Workbook")[:512])
    yield HostileFile("sectors.xls", lambda: sample_files.make_ole("Workbook")[:512] + b"\xff" * _MIB)


def _directory_cycle() -> bytes:
    data = bytearray(sample_files.make_ole("Workbook", "Other"))
    # The siblings of the second entry are the entry itself.
    data[1536 + 128 + 68 : 1536 + 128 + 76] = struct.pack("<2I", 1, 1)
    return bytes(data)


def _table_cycle() -> bytes:
    data = bytearray(sample_files.make_ole("Workbook"))
    data[512 + 4 : 512 + 8] = struct.pack("<I", 1)
    return bytes(data)
