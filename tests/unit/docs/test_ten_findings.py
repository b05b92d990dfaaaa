"""Each row of the ten findings names code, settings, metrics and tests that exist."""

from __future__ import annotations

import re

import pytest

from emberq.config.environment import Environment
from emberq.config.runtime import RuntimeSettings
from emberq.telemetry.catalogue import CATALOGUE
from tests.harness.paths import DOCS
from tests.mutants.mutants import MUTANTS
from tests.unit.docs.test_delivery import exists

PAGE = (DOCS / "explanation" / "ten-findings.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+ \|", line)
]
SETTINGS = {*RuntimeSettings.model_fields, *(f"EMBERQ_{name.upper()}" for name in Environment.model_fields)}
METRICS = {metric.name for metric in CATALOGUE}


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_there_is_one_row_for_each_finding() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 11))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_what_exists(row: list[str]) -> None:
    number, finding, mechanism, code, settings, metrics, tests = row
    assert finding.endswith(".")
    assert mechanism.endswith(".")
    # That the code exists is for test_pages.
    assert spans(code)
    assert settings == "always on" or spans(settings)
    assert set(spans(settings)) - SETTINGS == set()
    named = set(spans(re.sub(r"\([^)]*\)", "", metrics)))
    assert named
    assert named - METRICS == set()
    assert [test for test in spans(tests) if not exists(f"tests/{test}")] == []
    mutant = MUTANTS[int(number) - 1]
    assert {f"tests/{test}" for test in spans(tests)} == {test.partition("[")[0] for test in mutant.tests}
