"""OpenDocument workbooks are read as they are shown."""

from __future__ import annotations

import io
import time

import pytest

from emberq.errors import CorruptFile, EncryptedFile, NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect_stream
from tests.harness import sample_files as files
from tests.harness.open_document import make_ods


def read(data: bytes) -> Document:
    return files.extract_bytes(data, media.ODS)


def sheet(*rows: str, name: str = "Data", shapes: str = "") -> str:
    return f'<table:table table:name="{name}">{shapes}{"".join(rows)}</table:table>'


def row(*cells: str, repeated: int = 1) -> str:
    return f'<table:table-row table:number-rows-repeated="{repeated}">{"".join(cells)}</table:table-row>'


def cell(text: str = "", more: str = "", inner: str = "") -> str:
    words = f"<text:p>{text}</text:p>" if text else ""
    return f"<table:table-cell {more}>{inner}{words}</table:table-cell>"


def repeated(count: int, text: str = "") -> str:
    return cell(text, f'table:number-columns-repeated="{count}"')


def test_texts_of_cells_are_those_that_are_shown() -> None:
    shown = row(
        cell("25.5%", 'office:value="0.255" office:value-type="percentage"'),
        cell("36:00:00", 'office:time-value="PT36H00M00S"'),
        cell("15.03.26", 'office:date-value="2026-03-15"'),
        cell("März 26", 'office:date-value="2026-03-15"'),
        cell("one<text:s/>two<text:line-break/>three"),
    )

    document = read(make_ods(sheet(shown) + sheet(row(cell("alone")), name="Other") + sheet(name="Empty")))

    assert document.page_count == 3
    assert document.text.split("\n\n") == [
        "Data",
        "25.5% | 36:00:00 | 2026-03-15 | März 26 | one two three",
        "Other",
        "alone",
    ]


def test_empty_rows_and_columns_cost_nothing_wherever_they_end() -> None:
    body = sheet(
        row(repeated(2), cell("near"), repeated(16_000), cell("far")),
        row(repeated(16_384), repeated=1_048_574),
        row(cell("last")),
    )
    started = time.process_time()

    text = read(make_ods(body)).text

    assert time.process_time() - started < 1
    assert text == "Data\n\n| near | far\nlast"


def test_what_is_repeated_is_written_a_hundred_times_at_most() -> None:
    text = read(make_ods(sheet(row(cell("again"), repeated=1_000_000)))).text

    assert text.count("again") == 100


def test_the_value_of_merged_cells_stands_in_each_row_that_they_cover() -> None:
    merged = cell("North", 'table:number-rows-spanned="2" table:number-columns-spanned="1"')
    body = sheet(
        row(merged, cell("1")), row("<table:covered-table-cell/>", cell("2")), row(cell("South"), cell("3"))
    )

    assert read(make_ods(body)).text == "Data\n\nNorth | 1\nNorth | 2\nSouth | 3"


def test_what_stands_beside_the_cells_is_read() -> None:
    note = "<office:annotation><dc:creator>Zoë</dc:creator><text:p>Out of stock</text:p></office:annotation>"
    link = '<text:a xlink:href="https://example.org/nut">nut</text:a>'
    chart = '<draw:frame><draw:object xlink:href="./Object 1"/></draw:frame>'
    picture = "<draw:frame>{}<draw:image/></draw:frame>"
    pictures = picture.format("<svg:desc>A lorry</svg:desc>") + picture.format("")
    shapes = f"<table:shapes>{chart}{pictures}</table:shapes>"
    content = (
        '<r xmlns:c="urn:c" xmlns:t="urn:t" xmlns:p="urn:p"><c:chart><c:title><p:p>Sales</p:p></c:title>'
        "<t:table><t:table-row><t:table-cell><p:p>a</p:p></t:table-cell><t:table-cell><p:p>1</p:p>"
        "</t:table-cell></t:table-row></t:table></c:chart></r>"
    )
    body = sheet(row(cell("bolt", inner=note), cell(link)), shapes=shapes)

    document = read(files.replace_members(make_ods(body), {"Object 1/content.xml": content.encode()}))

    assert document.text.split("\n\n") == [
        "Data",
        "bolt | nut",
        "A lorry\nComment by Zoë on A1 (bolt): Out of stock\nnut: https://example.org/nut",
        "Sales",
        "a | 1",
    ]
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.IMAGES_SKIPPED, 1)
    ]


def test_a_workbook_with_a_password_is_encrypted() -> None:
    manifest = "<manifest><file-entry><encryption-data/></file-entry></manifest>"

    with pytest.raises(EncryptedFile):
        read(
            files.replace_members(
                make_ods(sheet(row(cell("x")))), {"META-INF/manifest.xml": manifest.encode()}
            )
        )


def test_a_workbook_without_words_is_no_success() -> None:
    with pytest.raises(NoTextFound):
        read(make_ods(sheet(row(cell()))))


@pytest.mark.parametrize("body", ["<table:table", "", "<table:table><table:table-row></table:table>"])
def test_a_damaged_workbook_is_corrupt(body: str) -> None:
    with pytest.raises(CorruptFile):
        read(make_ods(body))


def test_it_is_told_by_its_content() -> None:
    assert detect_stream(io.BytesIO(make_ods(sheet(row(cell("x")))))) == media.ODS
