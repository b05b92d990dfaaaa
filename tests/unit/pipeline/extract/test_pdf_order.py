"""A PDF's lines come in the order in which they are read, whatever the order in which they are drawn."""

from __future__ import annotations

import random

import pytest

from emberq.pipeline.document import SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.pdf.lines import tidy
from tests.harness.pdf_files import HEIGHT, WIDTH, PdfFile, lines_at, text_at
from tests.harness.sample_files import extract_bytes

_LEFT = [f"The left column has line {number} here" for number in range(12)]
_RIGHT = [f"and the right one has line {number} too" for number in range(12)]


def read(*operators: bytes, rotate: int = 0) -> str:
    pdf = PdfFile()
    pdf.page(b"".join(operators), rotate=rotate)
    return extract_bytes(pdf.finish(), media.PDF).text


def lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def column(x: float, texts: list[str]) -> list[bytes]:
    return [text_at(x, 700 - 15 * index, text) for index, text in enumerate(texts)]


def test_columns_that_are_drawn_row_by_row_are_read_one_after_the_other() -> None:
    rows = zip(column(60, _LEFT), column(320, _RIGHT), strict=True)

    assert lines(read(*(left + right for left, right in rows))) == _LEFT + _RIGHT


def test_lines_across_the_columns_stay_between_them() -> None:
    rows = [left + right for left, right in zip(column(60, _LEFT), column(320, _RIGHT), strict=True)]
    title = text_at(60, 740, "A title that stands above both of the columns, from edge to edge")
    across = "And in the middle there is a line that goes across both columns of it"
    rows[5] = text_at(60, 700 - 15 * 5, across)

    assert lines(read(title, *rows)) == [
        "A title that stands above both of the columns, from edge to edge",
        *_LEFT[:5],
        *_RIGHT[:5],
        across,
        *_LEFT[6:],
        *_RIGHT[6:],
    ]


def test_a_right_column_that_is_drawn_first_is_read_second() -> None:
    assert lines(read(*column(320, _RIGHT), *column(60, _LEFT))) == _LEFT + _RIGHT


@pytest.mark.parametrize("seed", range(3))
def test_lines_that_are_drawn_anyhow_are_read_downwards(seed: int) -> None:
    drawn = column(60, _LEFT + _RIGHT)
    random.Random(seed).shuffle(drawn)

    assert lines(read(*drawn)) == _LEFT + _RIGHT


def test_the_cells_of_a_table_stay_beside_each_other() -> None:
    rows = [("Box", "red", "19.90"), ("Rack", "blue", "250.00"), ("Shelf", "grey", "80.00")] * 4
    drawn = [
        text_at(x, 700 - 15 * index, cell)
        for index, row in enumerate(rows)
        for x, cell in zip((60, 220, 380), row, strict=True)
    ]

    assert lines(read(*drawn)) == [" ".join(row) for row in rows]


def test_descriptions_stay_behind_their_terms() -> None:
    rows = [(f"Term {n}", f"is described by a whole sentence with number {n}") for n in range(8)]
    drawn = [
        text_at(60, 700 - 15 * n, term) + text_at(200, 700 - 15 * n, said)
        for n, (term, said) in enumerate(rows)
    ]

    assert lines(read(*drawn)) == [" ".join(row) for row in rows]


_TURNS = {
    90: b"0 1 -1 0 %d 0 cm\n" % WIDTH,
    180: b"-1 0 0 -1 %d %d cm\n" % (WIDTH, HEIGHT),
    270: b"0 -1 1 0 0 %d cm\n" % HEIGHT,
}
_PARAGRAPHS = [["One line of a paragraph", "and its next line", "and its last"], ["Another one", "with two"]]
_HEADLINE = text_at(60, 500, "A headline", size=20)
_UPRIGHT = _HEADLINE + lines_at(60, 460, _PARAGRAPHS[0]) + lines_at(60, 400, _PARAGRAPHS[1])


@pytest.mark.parametrize("degrees", _TURNS)
def test_a_page_that_is_shown_turned_is_read_like_an_upright_one(degrees: int) -> None:
    pdf = PdfFile()
    pdf.page(b"q " + _TURNS[degrees] + _UPRIGHT + b"Q", rotate=degrees)

    document = extract_bytes(pdf.finish(), media.PDF)

    assert [(s.kind, document.text[s.start : s.end]) for s in document.segments] == [
        (SegmentKind.HEADING, "A headline"),
        *((SegmentKind.PARAGRAPH, "\n".join(texts)) for texts in _PARAGRAPHS),
    ]


@pytest.mark.parametrize("degrees", _TURNS)
def test_turned_text_beside_upright_text_is_read_for_itself(degrees: int) -> None:
    upright = lines_at(60, 700, _LEFT)

    found = lines(read(upright, b"q " + _TURNS[degrees] + _UPRIGHT + b"Q"))

    assert found == [*_LEFT, "A headline", *_PARAGRAPHS[0], *_PARAGRAPHS[1]]


@pytest.mark.parametrize(
    ("above", "below", "joined"),
    [
        ("the adminis-", "tration", "the administration"),
        ("by Fax-", "Anschluss", "by Fax-Anschluss"),
        ("a Haupt-", "und Nebensatz", "a Haupt- und Nebensatz"),
        ("since COVID-", "19 it is", "since COVID-19 it is"),
        ("A HEAD-", "LINE", "A HEADLINE"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line_is_kept_where_it_belongs_to_the_word(
    above: str, below: str, joined: str
) -> None:
    assert read(lines_at(60, 700, [above, below])) == joined


def test_bullets_of_a_font_of_symbols_are_bullets() -> None:
    assert tidy("\uf0b7 one") == "\u2022 one"
