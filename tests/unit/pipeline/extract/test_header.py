"""The row that names a table's columns is recognised."""

from __future__ import annotations

import pytest

from emberq.pipeline.extract.header import find_header, is_value

HEADERS = {
    "values under names": (0, "name,born|Anna,1971|Bob,1980"),
    "years as names": (0, "Country,2019,2020|DE,1.5,2|FR,2,3"),
    "words under names": (0, "name,city|Anna,Oslo|Bob,Rome"),
    "a key that repeats": (0, "key,value|a,x|b,y|a,z"),
    "a title above": (1, "Report 2026|Name,City,Sum|A,B,1|C,D,2"),
    "an empty corner": (0, ",north,south|sales,1,2|costs,3,4"),
    "numbers only": (None, "1,2|3,4|5,6"),
    "values in the first row": (None, "Anna,1971|Bob,1980|Eve,1990"),
    "a name that occurs below": (None, "yes,no|no,yes|yes,yes"),
    "two columns of one name": (None, "a,a|1,2|3,4"),
    "one row": (None, "name,city"),
    "one column": (None, "name|Anna|Bob"),
    "long sentences": (None, f"{'word ' * 30},b|1,2|3,4"),
    "nothing": (None, ""),
}


@pytest.mark.parametrize(("index", "table"), HEADERS.values(), ids=HEADERS)
def test_the_row_of_names_is_found(index: int | None, table: str) -> None:
    assert find_header([row.split(",") for row in table.split("|")]) == index


@pytest.mark.parametrize(
    "cell",
    [
        "1",
        "-1.5",
        "1,234.50",
        "1.234,56 €",
        "$12",
        "USD 12",
        "12 %",
        "(5)",
        "3e-4",
        "25 km",
        "2026-01-31",
        "31.01.2026",
        "10:30",
        "2026-01-31T10:30:00Z",
        "TRUE",
        "n/a",
        "-",
    ],
)
def test_values_are_told_from_words(cell: str) -> None:
    assert is_value(cell)


@pytest.mark.parametrize("cell", ["", "name", "Q1", "Section 5", "12 Main Street", "a1", "1" * 500])
def test_words_are_no_values(cell: str) -> None:
    assert not is_value(cell)
