"""`emberq ingest` and `emberq sync`: files and folders into a collection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from emberq.cli.client import connect
from emberq.cli.ingest.found import IdRule
from emberq.cli.output import AsJson

Collection = Annotated[
    str, typer.Option("--collection", "-c", help="The collection; created if it does not exist.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they are searchable.")]
Prefix = Annotated[
    str | None,
    typer.Option(help="Begins the ids, in place of host and folder: PREFIX/path/below/the/folder."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="Number of uploads at the same time.")]
Priority = Annotated[
    str | None,
    typer.Option(help="interactive, bulk, or 0 (first) to 999. [default: interactive; bulk for several]"),
]


def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files and folders.")],
    collection: Collection,
    wait: Wait = True,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include the subfolders of folders.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace changed files without asking.")] = False,
    external_id: Annotated[
        IdRule,
        typer.Option(help="What identifies a file: its host and path, the hash of its bytes, or its name."),
    ] = IdRule.PATH,
    prefix: Prefix = None,
    dry_run: DryRun = False,
    parallel: Parallel = 4,
    priority: Priority = None,
    json_output: AsJson = False,
) -> None:
    """Upload files and wait until they are searchable. Uploading an unchanged file again changes nothing.

    A file is identified by its host and path (HOST:/folder/file), so files of different folders never replace
    each other. A changed file replaces its older version after a question, or with --replace; otherwise it is
    skipped. With --prefix the ids stay the same when a folder moves or is read on another host.

    Exit code 1 if any file was skipped or failed.

    Example: emberq ingest ~/handbook -c handbook --recursive
    """
    from emberq.cli.ingest.found import find_files
    from emberq.cli.ingest.run import Run, announce_rule, finish

    started = time.monotonic()
    prefix = _checked(prefix)
    found = find_files(paths, recursive=recursive, rule=external_id, prefix=prefix)
    if not found.files and not found.not_taken:
        raise typer.BadParameter(" ".join(["no files found.", *found.notes()]), param_hint="PATHS")
    if not json_output:
        announce_rule(paths, rule=external_id, prefix=prefix)
    with connect() as client:
        run = Run(
            client,
            collection,
            wait=wait,
            dry_run=dry_run,
            parallel=parallel,
            priority=priority,
            as_json=json_output,
        )
        results = run.upload(found, may_replace=replace)
    finish(results, notes=found.notes(), started=started, as_json=json_output)


def sync(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The folder.")],
    collection: Collection,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete files from the collection that are gone from the folder.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: Wait = True,
    prefix: Prefix = None,
    dry_run: DryRun = False,
    parallel: Parallel = 4,
    priority: Priority = None,
    json_output: AsJson = False,
) -> None:
    """Bring a collection up to date with a folder: new and changed files, and with --delete deletions.

    Subfolders are included, and ids are those of `emberq ingest`. Only files that came from this folder are
    deleted, never those of other folders or programs, and none while the folder is empty or a part of it
    cannot be read. It may be stopped at any moment and run again.

    Exit code 1 if any file was skipped or failed.

    Example: emberq sync ~/handbook -c handbook --delete
    """
    from emberq.cli.ingest.found import find_files, source_of
    from emberq.cli.ingest.mirror import delete_gone
    from emberq.cli.ingest.run import Run, announce_rule, finish

    started = time.monotonic()
    prefix = _checked(prefix)
    found = find_files([folder], recursive=True, prefix=prefix)
    if not json_output:
        announce_rule([folder], rule=IdRule.PATH, prefix=prefix)
    with connect() as client:
        run = Run(
            client,
            collection,
            wait=wait,
            dry_run=dry_run,
            parallel=parallel,
            priority=priority,
            as_json=json_output,
        )
        results = run.upload(found, may_replace=True)
        notes = found.notes()
        results += delete_gone(
            run, folder, source_of(folder, prefix), found, results, wanted=delete, yes=yes, notes=notes
        )
    finish(results, notes=notes, started=started, as_json=json_output)


def _checked(prefix: str | None) -> str | None:
    if prefix is None:
        return None
    if not prefix.strip("/"):
        raise typer.BadParameter("must not be empty", param_hint="--prefix")
    return prefix.rstrip("/")
