"""`emberq config`: list, change and restore the run-time settings."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from emberq.cli.client import Client, connect, path_to
from emberq.cli.output import AsJson, print_json, print_listing, print_result, print_table, say

#: Longest wait until all workers apply a change; a worker in a long job applies it after the job.
_WAIT_SECONDS = 30.0
#: Seconds between two polls for the number of workers that apply it.
_POLL_SECONDS = 0.1

app = typer.Typer(no_args_is_help=True, help="List, change and restore the run-time settings.")

Key = Annotated[str, typer.Argument(help="The setting's name.")]
Tenant = Annotated[
    str | None, typer.Option(help="A tenant, for its own values; all tenants if left out.", metavar="NAME")
]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help=f"Wait up to {_WAIT_SECONDS:.0f} s until all workers apply it."),
]


def parse_value(text: str) -> Any:
    """Return a value: a number, a boolean or null if the text is one in JSON, otherwise the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, int | float) else text


@app.command("list")
def list_settings(tenant: Tenant = None, json_output: AsJson = False) -> None:
    """List all settings; a star marks changed settings."""
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
    """Print the value of one setting; secrets are not shown."""
    with connect() as client:
        setting = client.get(path_to("settings", key), tenant=tenant)
    print_result(setting, setting["value"], as_json=json_output)


@app.command("set")
def set_value(
    what: Annotated[
        list[str],
        typer.Argument(
            help="KEY VALUE for one setting, KEY=VALUE for several at once.",
            metavar="KEY [VALUE] | KEY=VALUE…",
        ),
    ],
    tenant: Tenant = None,
    wait: Wait = True,
    json_output: AsJson = False,
) -> None:
    """Change settings. An invalid value is refused with the reason. Without VALUE, the command asks for it.

    Examples: emberq config set rag_top_k 8
              emberq config set rag_chunk_size=40 rag_chunk_overlap=10
    """
    with connect() as client:
        values = {key: parse_value(text) for key, text in _assignments(client, what).items()}
        body = {"values": values}
        answer = client.request("PUT", "/settings", json=body, params=_params(tenant)).json()
        _print_change(client, answer, list(values), wait=wait, json_output=json_output)


def _assignments(client: Client, what: list[str]) -> dict[str, str]:
    if all("=" in one for one in what):
        return dict(one.split("=", 1) for one in what)
    if len(what) > 2:  # noqa: PLR2004 - a key and its value
        raise typer.BadParameter("give KEY VALUE, or KEY=VALUE one or more times")
    key = what[0]
    if len(what) > 1:
        return {key: what[1]}
    is_secret = bool(client.get(path_to("settings", key))["secret"])
    return {key: str(typer.prompt(key, hide_input=is_secret, err=True))}


@app.command()
def unset(
    keys: Annotated[list[str], typer.Argument(help="The settings' names.", metavar="KEY…")],
    tenant: Tenant = None,
    wait: Wait = True,
    json_output: AsJson = False,
) -> None:
    """Reset settings to their defaults.

    With --tenant, they are reset to the values for all tenants.
    """
    with connect() as client:
        answer = client.request("PUT", "/settings", json={"unset": keys}, params=_params(tenant)).json()
        _print_change(client, answer, keys, wait=wait, json_output=json_output)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most changes to list.")] = 50,
    json_output: AsJson = False,
) -> None:
    """List the latest changes, newest first."""
    with connect() as client:
        items = client.get("/settings/history", limit=limit)["items"]
    columns = {
        "Version": "version",
        "Tenant": "tenant",
        "Setting": "key",
        "Old": "old",
        "New": "new",
        "By": "changed_by",
        "Note": "note",
        "Changed": "changed_at",
    }
    print_listing(items, columns, empty="No changes.", as_json=json_output)


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(min=0, help="The version to restore; 0 stands for all defaults.")],
    wait: Wait = True,
    json_output: AsJson = False,
) -> None:
    """Restore all settings to an earlier version.

    This concerns all tenants, and makes a new version.
    """
    with connect() as client:
        answer = client.request("POST", "/settings/rollback", json={"version": version}).json()
        applied = _wait_for_workers(client) if wait else None
    if json_output:
        print_json({**answer, **(applied or {})})
        return
    say(f"Restored version {version}, as version {answer['version']}.")
    _print_applied(applied)


@app.command()
def status(json_output: AsJson = False) -> None:
    """Show how many workers apply the newest settings.

    Values that a host cannot use are printed with the reason.
    """
    with connect() as client:
        answer = client.get("/settings/status")
    if json_output:
        print_json(answer)
        return
    say(f"Version {answer['version']}.")
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
    """Return `{applied, workers}` once the two are equal, or when the wait is over."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        answer = client.get("/settings/status")
        if answer["applied"] == answer["workers"] or time.monotonic() > deadline:
            return {"applied": answer["applied"], "workers": answer["workers"]}
        time.sleep(_POLL_SECONDS)


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
        say(f"{one['key']} = {one['value']} (applies: {one['applies']})")
    _print_applied(applied)


def _print_applied(applied: dict[str, Any] | None) -> None:
    if applied is None:
        return
    done, workers = applied["applied"], applied["workers"]
    if not workers:
        say("No workers are running; they will apply it when they start.")
        return
    say(f"Applied by {done} of {workers} workers.")
    if done < workers:
        say("The others apply it after their current job or restart; see `emberq config status`.", err=True)


def _warn(unreadable: list[dict[str, Any]], *, where: str = "The API's host") -> None:
    for one in unreadable:
        what = one["key"] or "a combination of settings"
        whose = f" of the tenant {one['tenant']!r}" if one["tenant"] else ""
        say(f"{where} cannot use {what}{whose}: {one['reason']} ({one['code']})", err=True)
