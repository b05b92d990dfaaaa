"""`emberq ingest`: files and folders into a collection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from emberq.cli.output import AsJson, print_json

__all__ = ["find_files", "ingest"]


def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files and folders.")],
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="Collection to put them in; made if it is not there.")
    ],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they are searchable.")] = True,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders with all that is below them.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Uploads at once.")] = 4,
    priority: Annotated[
        str | None,
        typer.Option(help="interactive, bulk or 0 (first) to 999; bulk for several files if left out."),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Upload files and wait until they are searchable. Sending the same file again changes nothing.

    Example: emberq ingest ~/handbook -c handbook --recursive
    """
    from emberq.cli.client import connect
    from emberq.cli.upload import Uploader

    files = find_files(paths, recursive=recursive)
    if not files:
        raise typer.BadParameter("no file there; --recursive looks below folders", param_hint="PATHS")
    with connect() as client:
        transfer = Uploader(
            client,
            collection,
            parallel=parallel,
            # Whoever sends one file waits for it; many should not stand in its way.
            priority=priority or ("interactive" if len(files) == 1 else "bulk"),
            quiet=json_output,
        )
        try:
            outcomes = transfer.run(files, wait=wait)
        except KeyboardInterrupt:
            sys.stderr.write(
                f"\nStopped. {transfer.acknowledged} uploaded files are processed all the same.\n"
                "→ Look with `emberq status` and `emberq jobs list`; run the command again for the rest.\n"
            )
            raise typer.Exit(130) from None
    if json_output:
        print_json([outcome.as_dict() for outcome in outcomes])
    else:
        transfer.summarize(outcomes)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def find_files(paths: list[Path], *, recursive: bool) -> list[tuple[Path, str]]:
    """Return the files to send and the external id of each: its path below the folder that was named.

    Hidden files and folders are left out of folders; a file that is named itself is always taken.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if path.is_file():
            found.setdefault(path.absolute(), path.name)
            continue
        for below in sorted(path.rglob("*") if recursive else path.iterdir()):
            name = below.relative_to(path)
            if below.is_file() and not any(part.startswith(".") for part in name.parts):
                found.setdefault(below.absolute(), name.as_posix())
    return list(found.items())
