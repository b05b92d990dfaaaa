"""Pictures, and pages of PDFs without text, are read by OCR in the confined child, where it is installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from emberq.errors import CorruptFile, NoTextFound, UnsupportedMediaType
from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.budget import Budget
from emberq.pipeline.document import Document
from emberq.pipeline.extract.layout import ocr
from emberq.pipeline.sandbox.run import extract_sandboxed

pytestmark = [
    pytest.mark.skipif(not ocr.is_installed(), reason="emberq[ocr] is not installed"),
    pytest.mark.slow,
]

_LEFT = ["The committee read", "the report on storage", "and found no faults", "in all of it"]
_RIGHT = ["The budget for next", "year was adopted and", "has more money for", "the maintenance"]


def draw(lines: Sequence[tuple[int, int, str]]) -> Image.Image:
    picture = Image.new("RGB", (1000, 500), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=32)
    for x, y, text in lines:
        pen.text((x, y), text, fill="black", font=font)
    return picture


def two_columns() -> Image.Image:
    return draw(
        [
            (x, 60 + 60 * index, text)
            for x, column in ((40, _LEFT), (540, _RIGHT))
            for index, text in enumerate(column)
        ]
    )


def saved(pages: Sequence[Image.Image], kind: str) -> bytes:
    target = io.BytesIO()
    pages[0].save(target, kind, **({"save_all": True, "append_images": pages[1:]} if pages[1:] else {}))
    return target.getvalue()


def read(folder: Path, data: bytes, *, ocr_seconds: float | None = None) -> Document:
    path = folder / "file"
    path.write_bytes(data)
    budget = Budget.of(path, ocr=True)
    return extract_sandboxed(
        path,
        name="file",
        timeout_seconds=600,
        cpu_seconds=budget.cpu_seconds,
        memory_bytes=budget.memory_bytes,
        ocr_seconds=budget.ocr_seconds if ocr_seconds is None else ocr_seconds,
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "PDF"])
def test_a_picture_is_read_column_by_column(tmp_path: Path, kind: str) -> None:
    document = read(tmp_path, saved([two_columns()], kind))

    assert [line for line in document.text.split("\n") if line][-8:] == _LEFT + _RIGHT
    assert document.warnings == ()


@pytest.mark.parametrize("kind", ["TIFF", "PDF"])
def test_every_page_of_a_scan_is_read(tmp_path: Path, kind: str) -> None:
    document = read(tmp_path, saved([draw([(40, 60, "Page one")]), draw([(40, 60, "Page two")])], kind))

    assert document.page_count == 2
    found = [(s.page, document.text[s.start : s.end]) for s in document.segments]
    assert found[-2:] == [(1, "Page one"), (2, "Page two")]


def test_pages_beyond_the_time_for_ocr_are_left_out_and_told(tmp_path: Path) -> None:
    pages = [draw([(40, 60, "Page one")]), draw([(40, 60, "Page two")])]

    document = read(tmp_path, saved(pages, "TIFF"), ocr_seconds=0.001)

    assert document.text == "Page one"
    assert [(w.code, w.names) for w in document.warnings] == [(WarningCode.TRUNCATED_AT_LIMIT, ("page 2",))]


def test_without_the_setting_the_outcome_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMediaType) as picture:
        read(tmp_path, saved([two_columns()], "PNG"), ocr_seconds=0)
    with pytest.raises(NoTextFound) as scan:
        read(tmp_path, saved([two_columns()], "PDF"), ocr_seconds=0)

    assert "ocr_enabled" in picture.value.hint
    assert "ocr_enabled" in scan.value.hint


def test_a_picture_without_text_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(NoTextFound):
        read(tmp_path, saved([Image.new("RGB", (600, 400), "white")], "PNG"))


def test_a_damaged_picture_is_corrupt(tmp_path: Path) -> None:
    data = saved([two_columns()], "PNG")

    with pytest.raises(CorruptFile):
        read(tmp_path, data[: len(data) // 2])


def test_a_picture_of_too_many_pixels_is_not_unpacked(tmp_path: Path) -> None:
    data = saved([Image.new("1", (30_000, 30_000))], "PNG")

    with pytest.raises((NoTextFound, CorruptFile)):
        read(tmp_path, data)
