"""`emberq keys`: create, list, rotate and revoke API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from emberq.cli.client import connect, path_to
from emberq.cli.durations import parse_duration
from emberq.cli.output import AsJson, Columns, print_listing, print_result, until

app = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")

Tenant = Annotated[
    str | None,
    typer.Option(
        help="The tenant that the key belongs to; the tenant of your own key if left out.", metavar="NAME"
    ),
]

Expires = Annotated[
    str | None,
    typer.Option(help="How long the new key is valid, e.g. 12h or 30d.", metavar="TIME"),
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
    expires: Expires = None,
    json_output: AsJson = False,
) -> None:
    """Create a key and print it; it cannot be shown again.

    Without EMBERQ_API_KEY the key is created directly in the database.
    """
    from emberq.config.environment import get_environment

    valid_seconds = parse_duration(expires) if expires else None
    if get_environment().api_key is None:
        from emberq.cli.commands import processes

        key = processes.create_key(name=name, scopes=scopes, tenant=tenant, valid_seconds=valid_seconds)
    else:
        body = {"name": name, "scopes": scopes, "tenant": tenant, "valid_seconds": valid_seconds}
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
    columns: Columns = {
        "Prefix": "prefix",
        "Name": "name",
        "Scopes": "scopes",
        "Created": "created_at",
        "Last used": "last_used_at",
        "Expires": lambda key: until(key["expires_at"]),
        "Revoked": "revoked_at",
    }
    print_listing(items, columns, empty="No keys.", as_json=json_output)


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(help="The key's name, its prefix or its id.")],
    grace: Annotated[
        str, typer.Option(help="How long the old key is still valid; 0s ends it at once.", metavar="TIME")
    ] = "1d",
    tenant: Tenant = None,
    expires: Expires = None,
    json_output: AsJson = False,
) -> None:
    """Create a key in the place of another one and print it; it cannot be shown again.

    It has the same name, tenant and scopes. The old key expires after the grace period.
    """
    body = {
        "grace_seconds": parse_duration(grace),
        "valid_seconds": parse_duration(expires) if expires else None,
    }
    with connect() as client:
        answer = client.request("POST", path_to("keys", name, "rotate"), json=body, params=_of(tenant))
    key = str(answer.json()["key"])
    _keep_first_key(name, key)
    print_result({"key": key}, key, as_json=json_output)


def _keep_first_key(rotated: str, key: str) -> None:
    """Write the new key into the first key's file, if that is the key that was rotated."""
    from emberq.cli.first_key import read_first_key, write_first_key
    from emberq.config.environment import get_environment
    from emberq.store.admin.api_keys import FIRST_KEY

    data_dir = get_environment().data_dir
    kept = read_first_key(data_dir)
    if kept and (rotated == FIRST_KEY or kept.startswith(rotated)):
        write_first_key(data_dir, key)


@app.command("rotate-secret")
def rotate_secret(json_output: AsJson = False) -> None:
    """Seal the keys of embedding providers again with a new secret key, directly in the database.

    Without EMBERQ_SECRET_KEY, a new key is made in the data directory, and running processes take it over.
    With it, put a new key before the old one (`NEW,OLD`) in every process first; it is used from then on, and
    the old one is needed until this command has ended.
    """
    from emberq.cli.commands import secret_key

    raise typer.Exit(secret_key.rotate_secret(json_output=json_output))


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The key's prefix, as `keys list` shows it, or its id.")],
    tenant: Tenant = None,
    json_output: AsJson = False,
) -> None:
    """Revoke a key."""
    with connect() as client:
        client.request("DELETE", path_to("keys", prefix), params=_of(tenant))
    print_result({"revoked": prefix}, "Revoked.", as_json=json_output)


def _of(tenant: str | None) -> dict[str, str]:
    return {"tenant": tenant} if tenant else {}
