"""What a measurement found: a table, and figures that are held against goals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

__all__ = ["Figure", "Outcome", "percentile", "slope"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that has a goal.

    Attributes:
        name: What was measured.
        value: The number.
        unit: Its unit, empty for a ratio.
        comparison: Whether the goal is a lower or an upper bound.
        goal: The bound; nothing where the figure is only reported.
    """

    name: str
    value: float
    unit: str = ""
    comparison: Literal["≥", "≤", "<"] = "≤"
    goal: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached, nothing if there is none."""
        if self.goal is None:
            return None
        if self.comparison == "≥":
            return self.value >= self.goal
        return self.value <= self.goal if self.comparison == "≤" else self.value < self.goal

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        text = f"{self.name}: {self.value:.4g}{unit}"
        if self.goal is None:
            return text
        return f"{text} (goal {self.comparison} {self.goal:g}{unit}: {'met' if self.is_met else 'missed'})"

    def as_json(self) -> dict[str, Any]:
        """Return the figure as plain data."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "goal": None if self.goal is None else f"{self.comparison} {self.goal:g}",
            "met": self.is_met,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one measurement.

    Attributes:
        name: The measurement's name, as `--only` takes it.
        title: A heading.
        how: What was done, in a sentence or two.
        columns: Headings of the table.
        rows: Its cells.
        figures: The numbers that have goals.
        raw: Every sample behind them, for `--json`.
    """

    name: str
    title: str
    how: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Sequence[Figure]
    raw: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "name": self.name,
            "title": self.title,
            "how": self.how,
            "table": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "figures": [figure.as_json() for figure in self.figures],
            "raw": self.raw,
        }

    def as_markdown(self) -> str:
        """Return a section for the documentation."""
        lines = [f"## {self.title}", "", self.how, ""]
        lines += [_row(self.columns), _row(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_row(row) for row in self.rows]
        lines += ["", *(f"- {figure}" for figure in self.figures)]
        return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that so many percent of all samples do not exceed (nearest rank)."""
    if percent == 50:
        return median(samples)
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the straight line that fits best (least squares)."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
