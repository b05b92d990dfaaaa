"""Hostile Office files: small ones that name much, and structures without an end."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.kinds import HostileFile, make_package

__all__ = ["office_files"]

_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_MATHS = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
_SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_LINK = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'


def office_files() -> Iterator[HostileFile]:
    """Yield the files."""
    yield HostileFile("merged-columns.docx", _merged_columns)
    yield HostileFile("merged-text.docx", _merged_text, "file_too_large")
    yield HostileFile("long-labels.docx", _long_labels, "file_too_large")
    yield HostileFile("equations.docx", _equations, "document")
    yield HostileFile("fields.docx", _fields, "document")
    yield HostileFile("descriptions.docx", _descriptions)
    yield HostileFile("merged-all.xlsx", _merged_all, "file_too_large")
    yield HostileFile("diagonal.xlsx", _diagonal, "file_too_large")
    yield HostileFile("links-on-one-cell.xlsx", _links_on_one_cell)
    yield HostileFile("formats.xlsx", _formats, "document")
    far = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    yield HostileFile("far.xlsx", lambda: _book(far), "document")


def _document(body: str, **parts: str) -> bytes:
    members = {f"word/{name}.xml": text.encode() for name, text in parts.items()}
    members["word/document.xml"] = (
        f"<w:document {_WORD} {_MATHS}><w:body>{body}</w:body></w:document>".encode()
    )
    links = {name: (name, f"{name}.xml") for name in parts}
    return make_package(
        "word/document.xml", "wordprocessingml.document", members, {"word/document.xml": links}
    )


def _paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def _cell(text: str, properties: str) -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{_paragraph(text)}</w:tc>"


def _merged_columns() -> bytes:
    cell = _cell("a", '<w:gridSpan w:val="99999999"/>')
    row = f"<w:tr>{cell * 200}</w:tr>"
    return _document(f"<w:tbl>{row * 500}</w:tbl>")


def _merged_text() -> bytes:
    first = _cell("word " * 20_000, '<w:vMerge w:val="restart"/>') + _cell("a", "")
    rest = _cell("", "<w:vMerge/>") + _cell("b", "")
    return _document(f"<w:tbl><w:tr>{first}</w:tr>{f'<w:tr>{rest}</w:tr>' * 10_000}</w:tbl>")


def _long_labels() -> bytes:
    label = "%1 word " * 10_000
    level = f'<w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/><w:lvlText w:val="{label}"/></w:lvl>'
    numbering = (
        f'<w:numbering {_WORD}><w:abstractNum w:abstractNumId="0">{level}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>'
    )
    return _document(_paragraph("a", '<w:numPr><w:numId w:val="1"/></w:numPr>') * 20_000, numbering=numbering)


def _equations() -> bytes:
    deep = f"{'<m:rad><m:e>' * 100}<m:r><m:t>x</m:t></m:r>{'</m:e></m:rad>' * 100}"
    return _document(f"<w:p>{f'<m:oMath>{deep}</m:oMath>' * 300}</w:p>")


def _fields() -> bytes:
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
    code = '<w:r><w:instrText>HYPERLINK "https://example.org/{}"</w:instrText></w:r>'
    begun = "".join(mark.format("begin") + code.format(at) + mark.format("separate") for at in range(20_000))
    text = "<w:r><w:t>word</w:t></w:r>"
    return _document(f"<w:p>{begun}{text * 20_000}{mark.format('end') * 20_000}</w:p>")


def _descriptions() -> bytes:
    drawing = '<w:r><w:drawing><w:docPr descr="picture {}"/></w:drawing></w:r>'
    return _document(f"<w:p>{''.join(drawing.format(at) for at in range(40_000))}</w:p>")


def _book(rows: str, rest: str = "", styles: str = "") -> bytes:
    members = {
        "xl/workbook.xml": (
            f'<workbook {_SHEET} {_LINK}><sheets><sheet name="A" r:id="s"/></sheets></workbook>'.encode()
        ),
        "xl/s.xml": f"<worksheet {_SHEET} {_LINK}><sheetData>{rows}</sheetData>{rest}</worksheet>".encode(),
        "xl/styles.xml": f"<styleSheet {_SHEET}>{styles}</styleSheet>".encode(),
    }
    links = {"s": ("worksheet", "s.xml"), "t": ("styles", "styles.xml")}
    return make_package("xl/workbook.xml", "spreadsheetml.sheet", members, {"xl/workbook.xml": links})


def _column(number: int) -> str:
    letters = ""
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(65 + digit) + letters
    return letters


def _merged_all() -> bytes:
    columns = [_column(number) for number in range(1, 10_001)]
    first = "".join(f'<c r="{column}1"><v>1</v></c>' for column in columns)
    rows = "".join(f'<row r="{number}"><c r="XFD{number}"><v>1</v></c></row>' for number in range(2, 60_000))
    ranges = "".join(f'<mergeCell ref="{column}1:{column}1048576"/>' for column in columns)
    return _book(f'<row r="1">{first}</row>{rows}', f"<mergeCells>{ranges}</mergeCells>")


def _diagonal() -> bytes:
    return _book(
        "".join(f'<row r="{at}"><c r="{_column(at)}{at}"><v>1</v></c></row>' for at in range(1, 16_385))
    )


def _links_on_one_cell() -> bytes:
    text = "word " * 6_000
    cell = f'<row r="1"><c r="A1" t="inlineStr"><is><t>{text}</t></is></c></row>'
    links = "".join(f'<hyperlink ref="A1" r:id="s{at}"/>' for at in range(50_000))
    return _book(cell, f"<hyperlinks>{links}</hyperlinks>")


def _formats() -> bytes:
    code = "0" * 120 + "." + "0" * 120
    formats = f'<numFmts><numFmt numFmtId="200" formatCode="{code}"/></numFmts>'
    style = '<xf numFmtId="200"/>'
    styles = f"{formats}<cellXfs>{style * 60_000}</cellXfs>"
    cells = "".join(f'<c r="A{at}" s="{at}"><v>{at}.5</v></c>' for at in range(1, 2_000))
    return _book(f'<row r="1">{cells}</row>', styles=styles)
