"""Ages as people write them."""

from __future__ import annotations

import pytest
import typer

from emberq.cli.commands.jobs import age_in_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("30d", 2_592_000), ("0s", 0)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert age_in_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "30", "30 d", "-1d", "1w", "1.5h", "²d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        age_in_seconds(text)
