"""`emberq ingest`: upload files and folders into a collection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from emberq.cli.client import connect
from emberq.cli.output import AsJson, print_json


def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files and folders.")],
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="The collection; created if it does not exist.")
    ],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they are searchable.")] = True,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include the subfolders of folders.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Number of uploads at the same time.")] = 4,
    priority: Annotated[
        str | None,
        typer.Option(help="interactive, bulk, or 0 (first) to 999. [default: interactive; bulk for several]"),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Upload files and wait until they are searchable. Uploading an unchanged file again changes nothing.

    Example: emberq ingest ~/handbook -c handbook --recursive
    """
    from emberq.cli.upload import Uploader

    files = find_files(paths, recursive=recursive)
    if not files:
        raise typer.BadParameter("no files found; --recursive includes subfolders", param_hint="PATHS")
    with connect() as client:
        uploader = Uploader(
            client,
            collection,
            parallel=parallel,
            # A person waits for one file; many files must not delay it.
            priority=priority or ("interactive" if len(files) == 1 else "bulk"),
            quiet=json_output,
        )
        try:
            results = uploader.run(files, wait=wait)
        except KeyboardInterrupt:
            sys.stderr.write(
                f"\nStopped. The {uploader.acknowledged} files uploaded so far will still be processed.\n"
                "→ See `emberq jobs list`; run the same command again to upload the rest.\n"
            )
            raise typer.Exit(130) from None
    if json_output:
        print_json([result.as_dict() for result in results])
    else:
        uploader.summarize(results)
    if any(result.error for result in results):
        raise typer.Exit(1)


def find_files(paths: list[Path], *, recursive: bool) -> list[tuple[Path, str]]:
    """Return the files to upload, each with its external id: its path below the given folder.

    Hidden files and folders inside a folder are left out; a file given by its own path is always included.
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
