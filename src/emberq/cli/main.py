"""The Typer application."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def up(
    data_dir: Annotated[Path | None, typer.Option()] = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option()] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-n")] = None,
) -> None:
    """Run everything."""
    from emberq.cli import processes

    raise typer.Exit(processes.up(data_dir=data_dir, host=host, port=port, workers=workers))


@app.command()
def migrate() -> None:
    """Migrate."""


def main() -> None:
    """Run."""
    from emberq.errors import EmberqError

    try:
        app()
    except EmberqError as exc:
        sys.stderr.write(f"{exc.message} ({exc.code})\n→ {exc.hint}\n")
        sys.exit(1)
