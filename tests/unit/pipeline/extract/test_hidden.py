"""Hidden sheets and slides are read, unless the setting says otherwise."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pptx
import pytest

from emberq.pipeline.extract import media
from emberq.pipeline.extract.read import extract_stream
from emberq.pipeline.sandbox.run import extract_sandboxed
from tests.harness.open_document import make_ods


def make_xlsx() -> bytes:
    book = openpyxl.Workbook()
    book.active["A1"] = "shown"
    for name, state in (("Hidden", "hidden"), ("Deeply", "veryHidden")):
        sheet = book.create_sheet(name)
        sheet["A1"] = "secret"
        sheet.sheet_state = state
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def make_pptx() -> bytes:
    deck = pptx.Presentation()
    for text, shown in (("shown", None), ("secret", "0")):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = text
        if shown:
            slide._element.set("show", shown)
    target = io.BytesIO()
    deck.save(target)
    return target.getvalue()


def make_hidden_ods() -> bytes:
    style = '<style:style style:name="h"><style:table-properties table:display="false"/></style:style>'
    table = (
        '<table:table table:name="{0}" table:style-name="{1}"><table:table-row><table:table-cell>'
        "<text:p>{2}</text:p></table:table-cell></table:table-row></table:table>"
    )
    return make_ods(style + table.format("A", "", "shown") + table.format("B", "h", "secret"))


MAKERS = {media.XLSX: make_xlsx, media.PPTX: make_pptx, media.ODS: make_hidden_ods}


@pytest.mark.parametrize(("media_type", "make"), MAKERS.items())
def test_what_is_hidden_is_read_if_it_is_wanted(media_type: str, make: Callable[[], bytes]) -> None:
    read, left_out = (
        extract_stream(io.BytesIO(make()), media_type=media_type, hidden=hidden) for hidden in (True, False)
    )

    assert "shown" in read.text
    assert "secret" in read.text
    assert "shown" in left_out.text
    assert "secret" not in left_out.text
    assert "Hidden" not in left_out.text


def test_the_setting_reaches_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(make_xlsx())

    texts = [
        extract_sandboxed(path, name="a.xlsx", timeout_seconds=60, memory_bytes=1 << 30, hidden=hidden).text
        for hidden in (True, False)
    ]

    assert ["secret" in text for text in texts] == [True, False]
