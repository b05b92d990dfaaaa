"""`emberq keys`: create, list and revoke API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.client import connect
from emberq.cli.output import AsJson, print_listing, print_result

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

Tenant = Annotated[
    str | None,
    typer.Option(
        help="The tenant that the key belongs to; the tenant of your own key if left out.", metavar="NAME"
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The key's purpose.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="read, write or admin; may be repeated. [default: all; with --tenant, read and write]",
        ),
    ] = None,
    tenant: Tenant = None,
    json_output: AsJson = False,
) -> None:
    """Create a key and print it; it cannot be shown again.

    Without EMBERQ_API_KEY the key is created directly in the database.
    """
    from emberq.config.environment import get_environment

    if get_environment().api_key is None:
        from emberq.cli.commands import processes

        key = processes.create_key(name=name, scopes=scopes, tenant=tenant)
    else:
        body = {"name": name, "scopes": scopes, "tenant": tenant}
        with connect() as client:
            key = str(client.request("POST", "/keys", json=body).json()["key"])
    print_result({"key": key}, key, as_json=json_output)


@app.command("list")
def list_keys(tenant: Tenant = None, json_output: AsJson = False) -> None:
    """List the keys by their prefixes.

    The keys themselves are not stored.
    """
    with connect() as client:
        items = client.get("/keys", tenant=tenant)["items"]
    columns = {
        "Prefix": "prefix",
        "Name": "name",
        "Scopes": "scopes",
        "Created": "created_at",
        "Revoked": "revoked_at",
    }
    print_listing(items, columns, empty="No keys.", as_json=json_output)


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The key's prefix, as `keys list` shows it, or its id.")],
    tenant: Tenant = None,
    json_output: AsJson = False,
) -> None:
    """Revoke a key."""
    with connect() as client:
        client.request("DELETE", f"/keys/{prefix}", params={"tenant": tenant} if tenant else None)
    print_result({"revoked": prefix}, "Revoked.", as_json=json_output)
