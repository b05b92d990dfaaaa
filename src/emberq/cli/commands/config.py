"""`emberq config …`: the run-time settings."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emberq.cli.output import AsJson, ago, print_json, print_table

if TYPE_CHECKING:
    from emberq.cli.client import Client

__all__ = ["app", "parse_value"]

#: Seconds a change waits for the workers; one that is in a long job applies it when the job is over.
_WAIT_SECONDS = 30.0
#: Seconds between two looks at how many apply it.
_LOOK_SECONDS = 0.1

app = typer.Typer(no_args_is_help=True, help="Look at the run-time settings and change them, live.")

Key = Annotated[str, typer.Argument(help="The setting's name.")]
Tenant = Annotated[
    str | None, typer.Option(help="A tenant's own values, in place of everybody's.", metavar="NAME")
]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help=f"Wait up to {_WAIT_SECONDS:.0f} s until all workers apply it."),
]


def parse_value(text: str) -> Any:
    """Read a value as JSON if it is a number, a boolean or null; anything else is text as it stands."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, int | float) else text


@app.command("list")
def list_settings(tenant: Tenant = None, json_output: AsJson = False) -> None:
    """List all settings; a star marks those that were changed."""
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.get("/settings", tenant=tenant)
    if json_output:
        print_json(answer)
        return
    rows = (
        (("* " if one["changed"] else "  ") + one["key"], one["value"], one["applies"], one["description"])
        for one in answer["items"]
    )
    print_table(("  Setting", "Value", "Applies", "Description"), rows, empty="No settings.")
    _warn(answer["unreadable"])


@app.command()
def get(key: Key, tenant: Tenant = None, json_output: AsJson = False) -> None:
    """Print one setting's value; a secret's is never shown."""
    from emberq.cli.client import connect

    with connect() as client:
        setting = client.get(f"/settings/{key}", tenant=tenant)
    if json_output:
        print_json(setting)
    else:
        typer.echo(setting["value"])


@app.command("set")
def set_value(
    what: Annotated[
        list[str],
        typer.Argument(
            help="KEY VALUE, or KEY=VALUE for several that only fit together.",
            metavar="KEY [VALUE] | KEY=VALUE…",
        ),
    ],
    tenant: Tenant = None,
    wait: Wait = True,
    json_output: AsJson = False,
) -> None:
    """Change settings; what is not allowed is refused with the reason. Leave a secret out to be asked.

    Examples: emberq config set rag_top_k 8
              emberq config set rag_chunk_size=40 rag_chunk_overlap=10
    """
    from emberq.cli.client import connect

    with connect() as client:
        values = {key: parse_value(text) for key, text in _assignments(client, what).items()}
        body = {"values": values}
        answer = client.request("PUT", "/settings", json=body, params=_params(tenant)).json()
        _print_change(client, answer, list(values), wait=wait, json_output=json_output)


def _assignments(client: Client, what: list[str]) -> dict[str, str]:
    if all("=" in one for one in what):
        return dict(one.split("=", 1) for one in what)
    if len(what) > 2:  # noqa: PLR2004 - a key and its value
        raise typer.BadParameter("Give KEY VALUE, or KEY=VALUE as often as you like.")
    key = what[0]
    if len(what) > 1:
        return {key: what[1]}
    is_secret = bool(client.get(f"/settings/{key}")["secret"])
    return {key: str(typer.prompt(key, hide_input=is_secret, err=True))}


@app.command()
def unset(
    keys: Annotated[list[str], typer.Argument(help="The settings' names.", metavar="KEY…")],
    tenant: Tenant = None,
    wait: Wait = True,
    json_output: AsJson = False,
) -> None:
    """Return settings to their defaults, or a tenant's to everybody's."""
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.request("PUT", "/settings", json={"unset": keys}, params=_params(tenant)).json()
        _print_change(client, answer, keys, wait=wait, json_output=json_output)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most changes shown.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List the latest changes, newest first."""
    from emberq.cli.client import connect

    with connect() as client:
        items = client.get("/settings/history", limit=limit)["items"]
    if json_output:
        print_json(items)
        return
    columns = ("version", "tenant", "key", "old", "new", "changed_by", "note")
    rows = ((*(one[column] for column in columns), ago(one["changed_at"])) for one in items)
    titles = ("Version", "Tenant", "Setting", "Old", "New", "By", "Note", "Changed")
    print_table(titles, rows, empty="Nothing was changed.")


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(min=0, help="The version to return to; 0 is all defaults.")],
    wait: Wait = True,
    json_output: AsJson = False,
) -> None:
    """Make all settings what they were at a version; that is a new version itself."""
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.request("POST", "/settings/rollback", json={"version": version}).json()
        applied = _wait_for_workers(client) if wait else None
    if json_output:
        print_json({**answer, **(applied or {})})
        return
    typer.echo(f"The settings are those of version {version} again, as version {answer['version']}.")
    _print_applied(applied)


@app.command()
def status(json_output: AsJson = False) -> None:
    """Show how many workers apply the newest settings, and what of them cannot be read where."""
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.get("/settings/status")
    if json_output:
        print_json(answer)
        return
    typer.echo(f"Version {answer['version']}.")
    _print_applied(answer)
    rows = (
        (
            one["name"],
            one["version"],
            f"{one['applied']} of {one['workers']}",
            "yes" if one["pushed"] else "no",
        )
        for one in answer["hosts"]
    )
    print_table(("Host", "Version", "Applied by", "Pushed"), rows, empty="No host runs workers.")
    for host in answer["hosts"]:
        _warn(host["unreadable"], where=host["name"])
    _warn(answer["unreadable"])


def _params(tenant: str | None) -> dict[str, str]:
    return {} if tenant is None else {"tenant": tenant}


def _wait_for_workers(client: Client) -> dict[str, Any]:
    """Return `{applied, workers}` when they are the same, or as they are when the time is over."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        answer = client.get("/settings/status")
        if answer["applied"] == answer["workers"] or time.monotonic() > deadline:
            return {"applied": answer["applied"], "workers": answer["workers"]}
        time.sleep(_LOOK_SECONDS)


def _print_change(
    client: Client, answer: dict[str, Any], keys: list[str], *, wait: bool, json_output: bool
) -> None:
    settings = [one for one in answer["items"] if one["key"] in keys]
    applied = _wait_for_workers(client) if wait else None
    if json_output:
        shown = [{**one, **(applied or {})} for one in settings]
        print_json(shown[0] if len(shown) == 1 else shown)
        return
    for one in settings:
        typer.echo(f"{one['key']} = {one['value']} (applies: {one['applies']})")
    _print_applied(applied)


def _print_applied(applied: dict[str, Any] | None) -> None:
    if applied is None:
        return
    done, workers = applied["applied"], applied["workers"]
    if not workers:
        typer.echo("No workers are running; they will start with it.")
        return
    typer.echo(f"Applied by {done} of {workers} workers.")
    if done < workers:
        typer.echo(
            "The others finish their job or their generation first; see `emberq config status`.", err=True
        )


def _warn(unreadable: list[dict[str, Any]], *, where: str = "the API's host") -> None:
    for one in unreadable:
        what = one["key"] or "a combination"
        whose = f" of the tenant {one['tenant']!r}" if one["tenant"] else ""
        typer.echo(f"{what}{whose} cannot be used on {where}: {one['reason']} ({one['code']})", err=True)
