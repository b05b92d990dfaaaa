"""`emberq config …`: the run-time settings."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from emberq.cli.output import AsJson, ago, print_json, print_table

__all__ = ["app", "parse_value"]

app = typer.Typer(no_args_is_help=True, help="Look at the run-time settings and change them, live.")

Key = Annotated[str, typer.Argument(help="The setting's name.")]


def parse_value(text: str) -> Any:
    """Read a value as JSON if it is a number, a boolean or null; anything else is text as it stands."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, int | float) else text


@app.command("list")
def list_settings(json_output: AsJson = False) -> None:
    """List all settings; a star marks those that were changed."""
    from emberq.cli.client import connect

    with connect() as client:
        answer = client.get("/settings")
    if json_output:
        print_json(answer)
        return
    rows = (
        (("* " if one["changed"] else "  ") + one["key"], one["value"], one["applies"], one["description"])
        for one in answer["items"]
    )
    print_table(("  Setting", "Value", "Applies", "Description"), rows, empty="No settings.")


@app.command()
def get(key: Key, json_output: AsJson = False) -> None:
    """Print one setting's value; a secret's is never shown."""
    from emberq.cli.client import connect

    with connect() as client:
        setting = client.get(f"/settings/{key}")
    if json_output:
        print_json(setting)
    else:
        typer.echo(setting["value"])


@app.command("set")
def set_value(
    key: Key,
    value: Annotated[str | None, typer.Argument(help="The new value; asked for if left out.")] = None,
    json_output: AsJson = False,
) -> None:
    """Change a setting; what is not allowed is refused with the reason. Leave secrets out to be asked."""
    from emberq.cli.client import connect

    with connect() as client:
        if value is None:
            value = typer.prompt(key, hide_input=bool(client.get(f"/settings/{key}")["secret"]), err=True)
        setting = client.request("PUT", f"/settings/{key}", json={"value": parse_value(str(value))}).json()
    _print_change(setting, json_output=json_output)


@app.command()
def unset(key: Key, json_output: AsJson = False) -> None:
    """Return a setting to its default."""
    from emberq.cli.client import connect

    with connect() as client:
        setting = client.request("DELETE", f"/settings/{key}").json()
    _print_change(setting, json_output=json_output)


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
    rows = (
        (one["version"], one["key"], one["old"], one["new"], one["changed_by"], ago(one["changed_at"]))
        for one in items
    )
    print_table(("Version", "Setting", "Old", "New", "By", "Changed"), rows, empty="Nothing was changed.")


def _print_change(setting: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        print_json(setting)
    else:
        typer.echo(f"{setting['key']} = {setting['value']} (applies: {setting['applies']})")
