"""`emberq files …`."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.output import AsJson, ago, describe_error, print_json, print_table, size

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at the files of a collection, delete them.")

FileId = Annotated[str, typer.Argument(metavar="FILE", help="The file's id.")]


@app.command("list")
def list_files(
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection.")],
    state: Annotated[str | None, typer.Option(help="Only files in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most files shown.")] = 100,
    json_output: AsJson = False,
) -> None:
    """List the files of a collection, newest first."""
    from emberq.cli.client import connect

    with connect() as client:
        items = list(client.pages(f"/collections/{collection}/files", limit=limit, state=state))
    if json_output:
        print_json(items)
        return
    rows = (
        (
            file["id"],
            file["name"],
            file["state"],
            file["version"],
            size(file["size"]),
            ago(file["created_at"]),
        )
        for file in items
    )
    print_table(("File", "Name", "State", "Version", "Size", "Created"), rows, empty="No files.")


@app.command()
def show(
    file_id: FileId,
    text: Annotated[bool, typer.Option("--text", help="Print the extracted text instead.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show one file, or the text that was read from it."""
    from emberq.cli.client import connect

    with connect() as client:
        if text:
            typer.echo(client.request("GET", f"/files/{file_id}/text").text)
            return
        file = client.get(f"/files/{file_id}")
    if json_output:
        print_json(file)
        return
    rows = [
        (name, describe_error(value) if name == "error" else size(value) if name == "size" else value)
        for name, value in file.items()
        if value not in (None, {}, "")
    ]
    print_table(("", ""), rows, empty="")


@app.command()
def delete(file_id: FileId, json_output: AsJson = False) -> None:
    """Delete a file: searches stop finding it at once."""
    from emberq.cli.client import connect

    with connect() as client:
        client.request("DELETE", f"/files/{file_id}")
    if json_output:
        print_json({"deleted": file_id})
    else:
        typer.echo("Deleted.")
