"""The page of the documentation that holds the figures; each measurement has its own part of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from outcome import Outcome

__all__ = ["PATH", "ROOT", "write"]

ROOT = Path(__file__).parent.parent
PATH = ROOT / "docs" / "reference" / "benchmarks.md"


def write(outcomes: Sequence[Outcome], *, when: datetime, command: str, machine: Mapping[str, str]) -> None:
    """Replace what the page says of these measurements, or add it; the rest of the page stays.

    Raises:
        OSError: If the page cannot be read or written.
    """
    text = PATH.read_text(encoding="utf-8")
    for outcome in outcomes:
        text = _with_section(text, outcome.name, _section(outcome, when, command, machine))
    PATH.write_text(text, encoding="utf-8")


def _section(outcome: Outcome, when: datetime, command: str, machine: Mapping[str, str]) -> str:
    facts = "; ".join(f"{name}: {value}" for name, value in machine.items())
    return f"{outcome.as_markdown()}\n\nMeasured on {when:%Y-%m-%d} with `{command}`. {facts}."


def _with_section(text: str, name: str, section: str) -> str:
    begin, end = f"<!-- {name}: written by bench/run.py -->", f"<!-- end of {name} -->"
    whole = f"{begin}\n{section}\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if known.search(text):
        return known.sub(lambda _: whole, text)
    return f"{text.rstrip()}\n\n{whole}\n"
