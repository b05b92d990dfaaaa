"""Workbooks are read as they are shown."""

from __future__ import annotations

import datetime as dt
import io
import time
from collections.abc import Callable
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment

from emberq.errors import CorruptFile, NoTextFound
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Document
from emberq.pipeline.extract import media
from tests.harness import sample_files as files

SHEET = "xl/worksheets/sheet1.xml"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def written(fill: Callable[[Any, Any], None], **options: Any) -> bytes:
    """Write a workbook with one sheet by xlsxwriter."""
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True, **options})
    fill(book, book.add_worksheet("Data"))
    book.close()
    return target.getvalue()


def saved(book: openpyxl.Workbook) -> bytes:
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def read(data: bytes) -> Document:
    return files.extract_bytes(data, media.XLSX)


def lines(data: bytes) -> list[str]:
    return read(data).text.split("\n")


def with_sheet(rows: str) -> bytes:
    """Write a workbook whose only sheet has these rows of XML."""
    book = openpyxl.Workbook()
    book.active.title = "Data"
    sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'
    return files.replace_members(saved(book), {SHEET: sheet.encode()})


def test_values_have_their_formats() -> None:
    def fill(book: Any, sheet: Any) -> None:
        for row, (code, value) in enumerate(
            (
                ("0.0%", 0.255),
                ("[h]:mm:ss", 1.5),
                ("00000", 1099),
                ('#,##0.00 "EUR"', 1234.5),
                ("dd.mm.yy", 46096),
            )
        ):
            sheet.write(row, 0, code)
            sheet.write_number(row, 1, value, book.add_format({"num_format": code}))

    assert [line.rpartition(" | ")[2] for line in lines(written(fill))[2:]] == [
        "25.5%",
        "36:00:00",
        "01099",
        "1,234.50 EUR",
        "2026-03-15",
    ]


def test_values_without_a_format_are_whole() -> None:
    def fill(_book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, [True, 12345678901234567890, 0.1 + 0.2, "<a & b>"])
        sheet.write_formula(1, 0, "=1/0", value="#DIV/0!")
        sheet.write_formula(1, 1, '="a"&"b"', value="ab")

    assert lines(written(fill))[2:] == ["TRUE | 12345678901234600000 | 0.3 | <a & b>", "#DIV/0! | ab"]


def test_days_from_1904_are_dates() -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_datetime(0, 0, dt.datetime(2026, 3, 15), book.add_format({"num_format": "yyyy-mm-dd"}))  # noqa: DTZ001

    assert lines(written(fill, date_1904=True))[2] == "2026-03-15"


@pytest.mark.parametrize("cell", ["XFD1", "Z1048576", "AZ1048576", "XFD1048576"])
def test_a_stray_far_cell_costs_nothing(cell: str) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active[cell] = "near", "far"
    data = saved(book)

    started = time.process_time()
    text = read(data).text

    assert time.process_time() - started < 1
    assert text.replace("|", "").split() == ["Sheet", "near", "far"]


def test_cells_that_have_only_a_style_cost_nothing_and_show_nothing() -> None:
    row = '<row r="{0}">' + "".join(f'<c r="{letter}{{0}}" s="1"/>' for letter in "ABCDEFGH") + "</row>"
    rows = "".join(row.format(number) for number in range(2, 20_000))

    document = read(with_sheet(f'<row r="1"><c r="C1"><v>5</v></c></row>{rows}'))

    assert document.text == "Data\n\n5"


def test_empty_columns_are_left_out() -> None:
    def fill(_book: Any, sheet: Any) -> None:
        sheet.write_row(0, 1, ["name", None, None, "size"])
        sheet.write_row(1, 1, ["a", None, None, 1])

    assert lines(written(fill))[2:] == ["name | size", "a | 1"]


def test_the_value_of_merged_cells_stands_in_each_row_that_they_cover() -> None:
    def fill(_book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["Region", "Branch", "Stock"])
        sheet.merge_range(1, 0, 3, 0, "North")
        for row, values in enumerate((["Kassel", 12], ["Fulda", 7], ["Marburg", 9]), 1):
            sheet.write_row(row, 1, values)
        sheet.write_row(4, 0, ["South", "Ulm", 4])

    assert lines(written(fill))[2:] == [
        "Region | Branch | Stock",
        "North | Kassel | 12",
        "North | Fulda | 7",
        "North | Marburg | 9",
        "South | Ulm | 4",
    ]


def test_a_merged_column_of_a_million_rows_is_not_filled_where_nothing_is() -> None:
    def fill(_book: Any, sheet: Any) -> None:
        sheet.merge_range(0, 0, 1_048_575, 0, "all")
        sheet.write(5, 1, "other")

    assert lines(written(fill))[2:] == ["all", "all | other"]


def test_what_stands_beside_the_cells_is_read() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Prices"
    sheet["A1"], sheet["B1"], sheet["B2"] = "item", "price", 5
    sheet["A2"] = "bolt"
    sheet["A2"].comment = Comment("Out of stock", "Zoë")
    sheet["A2"].hyperlink = "https://example.org/bolt"
    sheet.oddHeader.center.text = "Secret & &Dinner"
    sheet.oddFooter.left.text = "Page footer"
    chart = BarChart()
    chart.title = "Prices by item"
    chart.add_data(Reference(sheet, min_col=2, min_row=1, max_row=2), titles_from_data=True)
    sheet.add_chart(chart, "D1")
    hidden = book.create_sheet("Hidden")
    hidden["A1"] = "kept"
    hidden.sheet_state = "hidden"
    book.create_sheet("Sheet7")
    book.create_sheet("Open questions")
    book.create_chartsheet("Chart page")
    book.properties.title = "Price list"
    book.properties.creator = "Zoë Writer"

    document = read(saved(book))

    assert document.page_count == 5
    assert document.text.split("\n\n") == [
        "Prices",
        "Secret & inner",
        "item | price\nbolt | 5",
        "bolt: https://example.org/bolt",
        "Comment by Zoë on A2 (bolt): Out of stock",
        "Prices by item",
        "Page footer",
        "Hidden",
        "kept",
        "Open questions",
        "Chart page",
        "Title: Price list\nAuthor: Zoë Writer",
    ]


def test_the_title_alone_is_no_text() -> None:
    book = openpyxl.Workbook()
    book.properties.title = "Price list"

    with pytest.raises(NoTextFound):
        read(saved(book))


def test_cells_in_another_form_are_read_alike() -> None:
    rows = (
        '<row><c t="inlineStr"><is><r><t>rich </t></r><r><t>text</t></r><rPh><t>reading</t></rPh></is></c>'
        '<c t="str"><f>x</f><v>a_x0041_&amp;amp;</v></c></row>'
        '<!-- none --><row r="4"><c t="n" r="B4"><v>2</v></c><c r="D4" t="e"><v>#N/A</v></c></row>'
    )

    assert lines(with_sheet(rows))[2:] == ["rich text | aA&amp;", " | 2 | #N/A"]


def test_prefixes_and_white_space_change_nothing() -> None:
    sheet = (
        f'<x:worksheet xmlns:x="{MAIN}">\n <x:sheetData>\n  <x:row r="1">\n   '
        '<x:c r="A1"><x:v>1</x:v></x:c>\n'
        '   <x:c r="B1" t="inlineStr"><x:is><x:t>&lt;b&gt;</x:t></x:is></x:c>\n  </x:row>\n </x:sheetData>\n'
        "</x:worksheet>"
    )
    data = files.replace_members(saved(openpyxl.Workbook()), {SHEET: sheet.encode("utf-16")})

    assert lines(data)[2] == "1 | <b>"


@pytest.mark.parametrize(
    "rows", ['<row r="1"><c r="A1"><v>1</v></row>', "<row", '<row r="1"><c r="A1">&x;</c></row>']
)
def test_rows_that_are_not_well_formed_are_corrupt(rows: str) -> None:
    with pytest.raises(CorruptFile):
        read(with_sheet(rows))


def test_a_damaged_drawing_or_comment_costs_only_itself() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet["A1"] = "kept"
    sheet["A1"].comment = Comment("lost", "Zoë")
    sheet.add_chart(BarChart(), "D1")
    broken = {"xl/comments/comment1.xml": b"<broken <<", "xl/drawings/drawing1.xml": b"<broken <<"}

    document = read(files.replace_members(saved(book), broken))

    assert document.text == "Sheet\n\nkept"
    assert [(warning.code, warning.count) for warning in document.warnings] == [
        (WarningCode.PART_UNREADABLE, 2)
    ]
