"""`emberq collections`: create, list and delete collections."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emberq.cli.client import connect, path_to
from emberq.cli.output import AsJson, print_listing, print_result

app = typer.Typer(no_args_is_help=True, help="Create, list and delete collections.")

Name = Annotated[str, typer.Argument(help="The collection's name.")]


@app.command("list")
def list_collections(json_output: AsJson = False) -> None:
    """List the collections."""
    with connect() as client:
        items = list(client.pages("/collections", limit=sys.maxsize))
    columns = {
        "Name": "name",
        "Files": "files",
        "Embedding model": "embedding_model",
        "Created": "created_at",
    }
    print_listing(items, columns, empty="No collections.", as_json=json_output)


@app.command()
def create(
    name: Name,
    embedding_model: Annotated[
        str | None, typer.Option(help="The setting rag_embedding_model if left out.")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Create a collection."""
    with connect() as client:
        body = {"name": name, "embedding_model": embedding_model}
        created = client.request("POST", "/collections", json=body).json()
    text = f"Created {created['name']}, with the embedding model {created['embedding_model']}."
    print_result(created, text, as_json=json_output)


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    json_output: AsJson = False,
) -> None:
    """Delete a collection and all its files."""
    with connect() as client:
        files = client.get(path_to("collections", name))["files"]
        if not yes:
            typer.confirm(f"Delete {name} and its {files} files?", abort=True, err=True)
        client.request("DELETE", path_to("collections", name))
    text = f"Deleted {name} and its {files} files."
    print_result({"deleted": name, "files": files}, text, as_json=json_output)
