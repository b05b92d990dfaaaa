"""The output of the commands: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer

from emberq.findings import Finding
from emberq.visible import visible

#: The columns of a listing: by title, the key of an item's value, or a function that returns the text.
Columns: TypeAlias = Mapping[str, str | Callable[[Mapping[str, Any]], object]]
#: The option of every command that prints anything.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: The width of a table that is written to a file or a pipe, where no line should be folded.
_PIPE_WIDTH = 1000
_STEP = 1024


def describe_error(error: dict[str, Any]) -> str:
    """Return a job's error as one line: code, message and hint."""
    stage = f" while {error['stage']}" if error.get("stage") else ""
    hint = f" → {error['hint']}" if error.get("hint") else ""
    return f"{error['code']}{stage}: {error['message']}{hint}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, in the plural if it is not 1."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def describe_warnings(warnings: Iterable[Mapping[str, Any]]) -> str:
    """Return a file's warnings as one line: each code, how often, and the first names."""
    shown = []
    for warning in warnings:
        count = f" {warning['count']} times" if warning["count"] > 1 else ""
        names = f" ({', '.join(warning['names'])})" if warning["names"] else ""
        shown.append(f"{warning['code']}{count}{names}")
    return ", ".join(shown)


def say(text: object, *, err: bool = False) -> None:
    """Print one line for people; characters that they would not see are escaped."""
    (sys.stderr if err else sys.stdout).write(f"{visible(str(text))}\n")


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Print the findings of a check, each with its fix."""
    if as_json:
        print_json([finding.as_dict() for finding in findings])
        return
    for finding in findings:
        say(f"{finding.result:<8}{finding.name}: {finding.detail}")
        if finding.fix:
            say(f"        → {finding.fix}")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not is_utf8, indent=2) + "\n")


def print_result(value: Any, text: str, *, as_json: bool) -> None:
    """Print a command's result: the value as JSON, or the text."""
    if as_json:
        print_json(value)
    else:
        say(text)


def print_listing(
    items: Sequence[Mapping[str, Any]],
    columns: Columns,
    *,
    empty: str,
    as_json: bool,
) -> None:
    """Print a listing: the items as JSON, or a table.

    Args:
        items: The items.
        columns: The columns.
        empty: The sentence to print if there are no items.
        as_json: Whether to print JSON.
    """
    if as_json:
        print_json(items)
        return
    rows = (
        [_cell(item, column) if isinstance(column, str) else column(item) for column in columns.values()]
        for item in items
    )
    print_table(list(columns), rows, empty=empty)


def _cell(item: Mapping[str, Any], key: str) -> object:
    """Return the value of a key for people: times as ages, sizes with a unit, lists joined."""
    value = item[key]
    if key.endswith("_at"):
        return ago(value)
    if key == "size":
        return size(value)
    return ", ".join(value) if isinstance(value, list) else value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under column titles, or the sentence `empty` if there are no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    if not table.row_count:
        sys.stdout.write(f"{empty}\n")
        return
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def size(count: float) -> str:
    """Return a number of bytes as text, e.g. `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} TiB"


def seconds(count: float | None) -> str:
    """Return a length of time as text, e.g. `0.35 s` or `2 min 5 s`; an empty text for None."""
    if count is None:
        return ""
    if count < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{count:.2f} s" if count < 10 else f"{count:.0f} s"  # noqa: PLR2004 - digits that matter
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def until(stamp: str | None) -> str:
    """Return what is left until an ISO 8601 time as text, `over` once it has passed; empty for None."""
    if not stamp:
        return ""
    left = (datetime.fromisoformat(stamp) - datetime.now(UTC)).total_seconds()
    return f"in {seconds(round(left))}" if left > 0 else "over"


def ago(stamp: str | None) -> str:
    """Return the age of an ISO 8601 time as text, e.g. `3 min 2 s ago`; an empty text for None."""
    if not stamp:
        return ""
    past = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    return f"{seconds(max(0.0, round(past)))} ago"
