"""`emberq models …`: the embedding models on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.output import AsJson, print_json, print_table, size

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Fetch embedding models and check their files.")

Name = Annotated[str | None, typer.Argument(help="The model; the default one if left out.")]


@app.command("list")
def list_models(json_output: AsJson = False) -> None:
    """List the models on this machine."""
    from emberq.models.files import list_models as find

    rows = [
        {
            "name": files.name,
            "dimensions": files.dimensions,
            "max_tokens": files.max_tokens,
            "size": files.weights.stat().st_size,
            "fingerprint": files.fingerprint,
            "directory": str(files.directory),
        }
        for files in find()
    ]
    if json_output:
        print_json(rows)
        return
    print_table(
        ("Model", "Dimensions", "Tokens", "Size", "Directory"),
        (
            (row["name"], row["dimensions"], row["max_tokens"], size(int(str(row["size"]))), row["directory"])
            for row in rows
        ),
        empty="No models; `emberq models pull` fetches the default one.",
    )


@app.command()
def pull(name: Name = None, json_output: AsJson = False) -> None:
    """Fetch a model and check its files; one that is there and right costs a moment."""
    from emberq.models.pins import DEFAULT_MODEL
    from emberq.models.pull import pull_model

    files = pull_model(name or DEFAULT_MODEL, progress=lambda line: typer.echo(line, err=True))
    if json_output:
        print_json({"name": files.name, "directory": str(files.directory), "fingerprint": files.fingerprint})
    else:
        typer.echo(f"{files.name} is ready.")


@app.command()
def verify(name: Name = None, json_output: AsJson = False) -> None:
    """Compare a model's files with the hashes they should have."""
    from emberq.models.files import find_model, verify_model
    from emberq.models.pins import DEFAULT_MODEL

    files = find_model(name or DEFAULT_MODEL)
    verify_model(files)
    if json_output:
        print_json({"name": files.name, "verified": True, "files": dict(files.hashes)})
    else:
        typer.echo(f"{files.name}: {len(files.hashes)} files are as they should be.")
