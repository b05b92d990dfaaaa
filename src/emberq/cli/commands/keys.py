"""`emberq keys …`: API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.output import AsJson, ago, print_json, print_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

Tenant = Annotated[
    str | None, typer.Option(help="Whose documents the key opens; your key's if left out.", metavar="NAME")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="read, write or admin; may be repeated. [default: all; of a tenant, read and write]",
        ),
    ] = None,
    tenant: Tenant = None,
    json_output: AsJson = False,
) -> None:
    """Make a key and print it, this once. Without EMBERQ_API_KEY it is made directly in the database."""
    from emberq.config.environment import get_environment

    if get_environment().api_key is None:
        from emberq.cli.commands import processes

        key = processes.create_key(name=name, scopes=scopes, tenant=tenant)
    else:
        from emberq.cli.client import connect

        body = {"name": name, "scopes": scopes, "tenant": tenant}
        with connect() as client:
            key = str(client.request("POST", "/keys", json=body).json()["key"])
    if json_output:
        print_json({"key": key})
    else:
        typer.echo(key)


@app.command("list")
def list_keys(tenant: Tenant = None, json_output: AsJson = False) -> None:
    """List the keys; never the keys themselves."""
    from emberq.cli.client import connect

    with connect() as client:
        items = client.get("/keys", tenant=tenant)["items"]
    if json_output:
        print_json(items)
        return
    rows = (
        (one["prefix"], one["name"], ", ".join(one["scopes"]), ago(one["created_at"]), ago(one["revoked_at"]))
        for one in items
    )
    print_table(("Prefix", "Name", "Scopes", "Created", "Revoked"), rows, empty="No keys.")


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The key's prefix, as `keys list` shows it, or its id.")],
    tenant: Tenant = None,
    json_output: AsJson = False,
) -> None:
    """Revoke a key."""
    from emberq.cli.client import connect

    with connect() as client:
        client.request("DELETE", f"/keys/{prefix}", params={"tenant": tenant} if tenant else None)
    if json_output:
        print_json({"revoked": prefix})
    else:
        typer.echo("Revoked.")
