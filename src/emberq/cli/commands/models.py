"""`emberq models`: list, download and verify the embedding models on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.output import AsJson, print_listing, print_result

app = typer.Typer(no_args_is_help=True, help="List, download and verify embedding models.")

Name = Annotated[str | None, typer.Argument(help="The model; the default model if left out.")]


@app.command("list")
def list_models(json_output: AsJson = False) -> None:
    """List the models on this machine."""
    from emberq.models.files import list_models as list_model_files

    items = [
        {
            "name": files.name,
            "dimensions": files.dimensions,
            "max_tokens": files.max_tokens,
            "size": files.weights.stat().st_size,
            "fingerprint": files.fingerprint,
            "directory": str(files.directory),
        }
        for files in list_model_files()
    ]
    columns = {
        "Model": "name",
        "Dimensions": "dimensions",
        "Tokens": "max_tokens",
        "Size": "size",
        "Directory": "directory",
    }
    empty = "No models; `emberq models pull` downloads the default model."
    print_listing(items, columns, empty=empty, as_json=json_output)


@app.command()
def pull(name: Name = None, json_output: AsJson = False) -> None:
    """Download a model.

    Does nothing if its files are on this machine and undamaged.
    """
    from emberq.models.pins import DEFAULT_MODEL
    from emberq.models.pull import pull_model

    files = pull_model(name or DEFAULT_MODEL, progress=lambda line: typer.echo(line, err=True))
    value = {"name": files.name, "directory": str(files.directory), "fingerprint": files.fingerprint}
    print_result(value, f"{files.name} is ready.", as_json=json_output)


@app.command()
def verify(name: Name = None, json_output: AsJson = False) -> None:
    """Compare a model's files with their expected hashes."""
    from emberq.models.files import find_model, verify_model
    from emberq.models.pins import DEFAULT_MODEL

    files = find_model(name or DEFAULT_MODEL)
    verify_model(files)
    value = {"name": files.name, "verified": True, "files": dict(files.hashes)}
    print_result(value, f"{files.name}: all {len(files.hashes)} files are undamaged.", as_json=json_output)
