"""What the commands print: tables for eyes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from emberq.findings import Finding

__all__ = [
    "AsJson",
    "ago",
    "describe_error",
    "print_findings",
    "print_json",
    "print_table",
    "seconds",
    "size",
]

#: The option every listing has.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Columns of a table that goes into a file or a pipe, where nothing should be cut.
_PIPE_WIDTH = 1000
_STEP = 1024


def describe_error(error: dict[str, Any]) -> str:
    """Show a job's error as one line: code, message and what to do next."""
    stage = f" while {error['stage']}" if error.get("stage") else ""
    hint = f" → {error['hint']}" if error.get("hint") else ""
    return f"{error['code']}{stage}: {error['message']}{hint}"


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Print what a doctor found, with what to do about it."""
    if as_json:
        print_json([finding.as_dict() for finding in findings])
        return
    for finding in findings:
        typer.echo(f"{finding.result:<8}{finding.name}: {finding.detail}")
        if finding.fix:
            typer.echo(f"        → {finding.fix}")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under column titles, or the sentence `empty` if there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    if not table.row_count:
        sys.stdout.write(f"{empty}\n")
        return
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def size(count: float) -> str:
    """Show a number of bytes, e.g. `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} TiB"


def seconds(count: float | None) -> str:
    """Show a length of time, e.g. `0.35 s`, `2 min 5 s`; nothing for None."""
    if count is None:
        return ""
    if count < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{count:.2f} s" if count < 10 else f"{count:.0f} s"  # noqa: PLR2004 - digits that matter
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def ago(stamp: str | None) -> str:
    """Show how long an ISO 8601 time is past, e.g. `3 min 2 s ago`; nothing for None."""
    if not stamp:
        return ""
    past = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    return f"{seconds(max(0.0, round(past)))} ago"
