"""`emberq files`: list, show and delete files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from emberq.cli.client import connect, path_to
from emberq.cli.output import (
    AsJson,
    Columns,
    describe_error,
    describe_warnings,
    print_json,
    print_listing,
    print_result,
    print_table,
    size,
)
from emberq.visible import visible

app = typer.Typer(no_args_is_help=True, help="List, show and delete files.")

FileId = Annotated[str, typer.Argument(metavar="FILE", help="The file's id.")]


#: How fields that are no plain text are shown.
_SHOWN: dict[str, Callable[[Any], str]] = {
    "error": describe_error,
    "size": size,
    "warnings": describe_warnings,
}


@app.command("list")
def list_files(
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection.")],
    state: Annotated[str | None, typer.Option(help="Only files in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most files to list.")] = 100,
    json_output: AsJson = False,
) -> None:
    """List the files of a collection, oldest first."""
    with connect() as client:
        items = list(client.pages(path_to("collections", collection, "files"), limit=limit, state=state))
    columns: Columns = {
        "File": "id",
        "Name": "name",
        "State": "state",
        "Version": "version",
        "Size": "size",
        "Warnings": lambda file: ", ".join(warning["code"] for warning in file["warnings"]),
        "Created": "created_at",
    }
    print_listing(items, columns, empty="No files.", as_json=json_output)


@app.command()
def show(
    file_id: FileId,
    text: Annotated[bool, typer.Option("--text", help="Print the extracted text instead.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show one file, or the text that was extracted from it."""
    with connect() as client:
        if text:
            extracted = client.request("GET", path_to("files", file_id, "text")).text
            # A program gets the text as it is.
            typer.echo(visible(extracted, keep="\n\t") if sys.stdout.isatty() else extracted)
            return
        file = client.get(path_to("files", file_id))
    if json_output:
        print_json(file)
        return
    rows = [
        (name, _SHOWN.get(name, str)(value))
        for name, value in file.items()
        if value not in (None, {}, [], "")
    ]
    print_table(("", ""), rows, empty="")


@app.command()
def delete(file_id: FileId, json_output: AsJson = False) -> None:
    """Delete a file; searches stop finding it at once."""
    with connect() as client:
        client.request("DELETE", path_to("files", file_id))
    print_result({"deleted": file_id}, "Deleted.", as_json=json_output)
