"""OpenDocument texts and presentations, as their programs show them."""

from __future__ import annotations

import io

import pytest

from emberq.errors import EncryptedFile
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from emberq.pipeline.extract.read import extract_stream
from tests.harness import sample_files as files
from tests.harness.open_document import make_odp, make_odt


def _read(data: bytes) -> Document:
    stream = io.BytesIO(data)
    return extract_stream(stream, media_type=detect_stream(stream, name="a.zip"))


def _pieces(document: Document) -> list[tuple[str, int, str]]:
    return [(s.kind.value, s.level, document.text[s.start : s.end]) for s in document.segments]


def _texts(document: Document) -> list[str]:
    return [document.text[s.start : s.end] for s in document.segments]


def test_headings_paragraphs_and_white_space() -> None:
    document = _read(
        make_odt(
            '<text:h text:outline-level="1">One</text:h><text:p>  a\n  <text:span>b</text:span> c<text:tab/>d'
            '<text:s text:c="2"/>e<text:line-break/>f<text:a xlink:href="http://x.org">link</text:a></text:p>'
            '<text:section><text:h text:outline-level="3">Three</text:h></text:section>'
            "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        )
    )

    assert document.media_type == media.ODT
    assert _pieces(document) == [
        ("heading", 1, "One"),
        ("paragraph", 0, "a b c\td  e\nflink"),
        ("heading", 3, "Three"),
    ]


LISTS = (
    '<text:list-style style:name="N"><text:list-level-style-number text:level="1" style:num-format="1"'
    ' style:num-suffix="."/><text:list-level-style-number text:level="2" style:num-format="a"'
    ' style:num-suffix=")" text:display-levels="2"/></text:list-style>'
    '<text:list-style style:name="B"><text:list-level-style-bullet text:level="1"/></text:list-style>'
    '<text:list-style style:name="R"><text:list-level-style-number text:level="1" style:num-format="I"'
    ' style:num-prefix="(" style:num-suffix=")" text:start-value="4"/></text:list-style>'
)


def _list(style: str, *items: str, more: str = "") -> str:
    inner = "".join(f"<text:list-item>{item}</text:list-item>" for item in items)
    return f'<text:list text:style-name="{style}"{more}>{inner}</text:list>'


def test_numbers_of_lists() -> None:
    body = (
        _list(
            "N",
            "<text:p>a</text:p><text:p>more</text:p>"
            + _list("N", "<text:p>b</text:p>", "<text:p>c</text:p>"),
            "<text:p>d</text:p>",
        )
        + _list("N", "<text:p>e</text:p>", more=' text:continue-numbering="true"')
        + _list("N", "<text:p>f</text:p>")
        + _list("B", "<text:p>g</text:p>")
        + _list("R", "<text:p>h</text:p>", "<text:p>i</text:p>")
    )

    assert _texts(_read(make_odt(body, styles=LISTS))) == [
        *("1. a", "more", "1.a) b", "1.b) c", "2. d", "3. e", "1. f", "- g", "(IV) h", "(V) i"),
    ]


def test_numbers_of_headings() -> None:
    styles = (
        '<text:outline-style><text:outline-level-style text:level="1" style:num-format="1"/>'
        '<text:outline-level-style text:level="2" style:num-format="1" text:display-levels="2"/>'
        '<text:outline-level-style text:level="3" style:num-format=""/></text:outline-style>'
    )
    body = "".join(
        f'<text:h text:outline-level="{level}">{text}</text:h>'
        for level, text in ((1, "a"), (2, "b"), (2, "c"), (3, "d"), (1, "e"), (2, "f"))
    )

    assert _texts(_read(make_odt(body, styles=styles))) == ["1 a", "1.1 b", "1.2 c", "d", "2 e", "2.1 f"]


def test_tables_keep_their_columns() -> None:
    row = "<table:table-row>{}</table:table-row>"
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>"
    inner = row.format(cell.format("", "in") + cell.format("", "ner"))
    nested = f"<table:table-cell><text:p>out</text:p><table:table>{inner}</table:table></table:table-cell>"
    body = (
        "<table:table><table:table-header-rows>"
        + row.format(cell.format("", "a") + cell.format("", "b") + cell.format("", "c"))
        + "</table:table-header-rows>"
        + row.format(
            cell.format(' table:number-columns-spanned="2"', "wide")
            + "<table:covered-table-cell/>"
            + cell.format("", "x")
        )
        + row.format('<table:table-cell table:number-columns-repeated="2"/>' + nested)
        + "</table:table><table:table>"
        + row.format("<table:table-cell><text:h>Framed</text:h></table:table-cell>")
        + "</table:table>"
    )

    assert _pieces(_read(make_odt(body))) == [
        ("table", 0, "a | b | c\nwide |  | x\n |  | out in ner"),
        ("heading", 1, "Framed"),
    ]


def test_notes_comments_headers_frames_and_properties() -> None:
    body = (
        "<text:p>text<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>noted</text:p>"
        "</text:note-body></text:note> <office:annotation><dc:creator>Bob</dc:creator><text:p>why?</text:p>"
        "</office:annotation>more<draw:frame><draw:text-box><text:p>boxed</text:p></draw:text-box></draw:frame>"
        "<draw:frame><draw:image/><svg:title>A plan</svg:title><svg:desc>of the hall</svg:desc>"
        "</draw:frame></text:p><text:p><text:ruby><text:ruby-base>東京</text:ruby-base><text:ruby-text>とうきょう</text:ruby-text></text:ruby>"
        "<text:ruby><text:ruby-base>支店</text:ruby-base></text:ruby></text:p>"
    )
    document = _read(
        make_odt(
            body,
            page="<style:header><text:p>Head</text:p></style:header><style:footer><text:p>Foot</text:p></style:footer>",
            meta="<dc:title>Report</dc:title><meta:keyword>one</meta:keyword><meta:keyword>two</meta:keyword>",
        )
    )

    assert _texts(document) == [
        *("Head", "text more", "boxed", "A plan\nof the hall", "東京支店 (とうきょう)", "noted"),
        *("Comment by Bob: why?", "Foot", "Title: Report\nKeywords: one, two"),
    ]
    assert [warning.code for warning in document.warnings] == [WarningCode.IMAGES_SKIPPED]


def test_formulas_and_charts_are_read() -> None:
    body = (
        '<text:p>area <draw:frame><draw:object xlink:href="./Object 1"/></draw:frame> ends</text:p>'
        '<text:p><draw:frame><draw:object xlink:href="./Object 2"/></draw:frame></text:p>'
    )
    chart = (
        "<office:body><office:chart><chart:chart><chart:title><text:p>Sales</text:p></chart:title><table:table>"
        "<table:table-row><table:table-cell><text:p>North</text:p></table:table-cell><table:table-cell>"
        "<text:p>4</text:p></table:table-cell></table:table-row></table:table></chart:chart></office:chart></office:body>"
    )
    data = make_odt(body, **{"Object 2__content.xml": chart})
    formula = b'<math xmlns="http://www.w3.org/1998/Math/MathML"><msup><mi>r</mi><mn>2</mn></msup></math>'

    document = _read(files.replace_members(data, {"Object 1/content.xml": formula}))

    assert _texts(document) == ["area r^{2} ends", "Sales", "North | 4"]


def test_a_presentation_has_its_slides_as_pages() -> None:
    slide = (
        '<draw:page><draw:frame presentation:class="outline"><draw:text-box><text:list><text:list-item>'
        "<text:p>point</text:p></text:list-item></text:list></draw:text-box></draw:frame>"
        '<draw:frame presentation:class="title"><draw:text-box><text:p>Title {0}</text:p></draw:text-box>'
        "</draw:frame><draw:g><draw:custom-shape><text:p>shape</text:p></draw:custom-shape></draw:g>"
        "<draw:frame><table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table></draw:frame>"
        '<presentation:notes><draw:frame presentation:class="notes"><draw:text-box><text:p>said {0}</text:p>'
        '</draw:text-box></draw:frame><draw:frame presentation:class="page-number"><draw:text-box>'
        "<text:p>9</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
    )

    document = _read(make_odp(slide.format(1) + slide.format(2)))

    assert document.media_type == media.ODP
    assert document.page_count == 2
    assert _texts(document) == [
        text
        for number in (1, 2)
        for text in (f"Title {number}", "- point", "shape", "a | b", f"said {number}")
    ]
    assert [segment.page for segment in document.segments] == [1] * 5 + [2] * 5


def test_a_protected_document_is_told() -> None:
    locked = files.replace_members(
        make_odt("<text:p>a</text:p>"), {"META-INF/manifest.xml": b"<manifest:encryption-data/>"}
    )

    with pytest.raises(EncryptedFile):
        _read(locked)


def test_repeated_cells_do_not_grow_without_end() -> None:
    cell = '<table:table-cell table:number-columns-repeated="999999999"><text:p>a</text:p></table:table-cell>'
    document = _read(make_odt(f"<table:table><table:table-row>{cell * 3}</table:table-row></table:table>"))

    assert document.text.count("a") == 1024
