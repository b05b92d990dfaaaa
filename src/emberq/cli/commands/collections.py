"""`emberq collections …`."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.output import AsJson, ago, print_json, print_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list and delete collections.")

Name = Annotated[str, typer.Argument(help="The collection's name.")]


@app.command("list")
def list_collections(json_output: AsJson = False) -> None:
    """List the collections."""
    from emberq.cli.client import connect

    with connect() as client:
        items = client.get("/collections")["items"]
    if json_output:
        print_json(items)
        return
    rows = ((one["name"], one["files"], one["embedding_model"], ago(one["created_at"])) for one in items)
    print_table(("Name", "Files", "Embedding model", "Created"), rows, empty="No collections.")


@app.command()
def create(
    name: Name,
    embedding_model: Annotated[str | None, typer.Option(help="The default model if left out.")] = None,
    json_output: AsJson = False,
) -> None:
    """Make a collection."""
    from emberq.cli.client import connect

    with connect() as client:
        body = {"name": name, "embedding_model": embedding_model}
        made = client.request("POST", "/collections", json=body).json()
    if json_output:
        print_json(made)
    else:
        typer.echo(f"{made['name']} is ready; its texts are embedded by {made['embedding_model']}.")


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json_output: AsJson = False,
) -> None:
    """Delete a collection and all its files."""
    from emberq.cli.client import connect

    with connect() as client:
        files = client.get(f"/collections/{name}")["files"]
        if not yes:
            typer.confirm(f"Delete {name} with {files} files?", abort=True, err=True)
        client.request("DELETE", f"/collections/{name}")
    if json_output:
        print_json({"deleted": name, "files": files})
    else:
        typer.echo(f"Deleted {name} with {files} files.")
